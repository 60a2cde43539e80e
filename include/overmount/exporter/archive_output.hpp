#ifndef OVERMOUNT_EXPORTER_ARCHIVE_OUTPUT_HPP
#define OVERMOUNT_EXPORTER_ARCHIVE_OUTPUT_HPP

#include <overmount/exporter/exporter.hpp>
#include <overmount/io/byte_sink.hpp>

#include <filesystem>
#include <utility>
#include <variant>

namespace overmount::OVERMOUNT_ABI {

/// Where an archive is written: to a file, which appears when it is complete, or to a sink, in one pass.
class archive_output
{
public:
    /// \param file an existing regular file is replaced when the archive is complete
    archive_output(std::filesystem::path file) : where_(std::move(file)) {} // implicit, as paths are
    archive_output(std::string file) : where_(std::filesystem::path(std::move(file))) {}
    archive_output(const char* file) : where_(std::filesystem::path(file)) {}
    archive_output(byte_sink sink) : where_(std::move(sink)) {}

    [[nodiscard]] const std::variant<std::filesystem::path, byte_sink>& where() const noexcept { return where_; }

private:
    std::variant<std::filesystem::path, byte_sink> where_;
};

/// A docker archive as current `docker save` writes it: an OCI layout in a tar, plus docker's `manifest.json`. Docker 1.10
/// and later, podman and skopeo can load it. Layers compressed with zstd require docker 23.
class docker_archive_target
{
public:
    explicit docker_archive_target(archive_output output) : output_(std::move(output)) {}

    /// Writes the archive.
    ///
    /// *Errors*: those of reading the layers, `invalid_asset` if one is damaged; `invalid_reference` for a name that docker
    /// does not allow; `not_a_regular_file` if the path exists and is not one; errno values, stage target.
    /// *Cancellation*: any type; takes effect between pieces of data.
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

    /// Writes the archive. Errors and cancellation as for `docker_archive_target::write`.
    OVERMOUNT_LAZY
    [[nodiscard]] boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const;

private:
    archive_output output_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/exporter/impl/archive_output.ipp>
#endif

#endif
