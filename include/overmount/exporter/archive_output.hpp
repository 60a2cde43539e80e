#ifndef OVERMOUNT_EXPORTER_ARCHIVE_OUTPUT_HPP
#define OVERMOUNT_EXPORTER_ARCHIVE_OUTPUT_HPP

#include <overmount/exporter/exporter.hpp>
#include <overmount/io/byte_sink.hpp>

#include <filesystem>
#include <utility>
#include <variant>

namespace overmount::inline OVERMOUNT_ABI {

/// Where an archive goes: a file, which appears when it is complete, or a sink, which gets it in one pass.
class archive_output
{
public:
    /// \param file a regular file that is there already gives way at the end
    archive_output(std::filesystem::path file) : where_(std::move(file)) {} // implicit, as paths are
    archive_output(std::string file) : where_(std::filesystem::path(std::move(file))) {}
    archive_output(const char* file) : where_(std::filesystem::path(file)) {}
    archive_output(byte_sink sink) : where_(std::move(sink)) {}

    [[nodiscard]] const std::variant<std::filesystem::path, byte_sink>& where() const noexcept { return where_; }

private:
    std::variant<std::filesystem::path, byte_sink> where_;
};

/// A docker archive, as `docker save` of today writes it: an OCI layout in a tar with docker's `manifest.json` beside
/// it. Docker from 1.10 on loads it, so do podman and skopeo. Layers compressed with zstd take docker 23.
class docker_archive_target
{
public:
    explicit docker_archive_target(archive_output output) : output_(std::move(output)) {}

    /// *Errors*: those of the layers, `invalid_asset` where one is damaged; `invalid_reference` for a name that is none
    /// for docker; `not_a_regular_file` for what stands where the file should; errno values, stage target.
    /// *Cancellation*: any; takes effect between pieces.
    OVERMOUNT_LAZY
    [[nodiscard]] boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const;

private:
    archive_output output_;
};

/// An OCI layout in a tar.
class oci_archive_target
{
public:
    explicit oci_archive_target(archive_output output) : output_(std::move(output)) {}

    /// As `docker_archive_target`.
    OVERMOUNT_LAZY
    [[nodiscard]] boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const;

private:
    archive_output output_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/exporter/impl/archive_output.ipp>
#endif

#endif
