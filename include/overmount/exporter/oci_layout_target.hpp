#ifndef OVERMOUNT_EXPORTER_OCI_LAYOUT_TARGET_HPP
#define OVERMOUNT_EXPORTER_OCI_LAYOUT_TARGET_HPP

#include <overmount/exporter/exporter.hpp>

#include <filesystem>

namespace overmount::inline OVERMOUNT_ABI {

/// An OCI layout as a directory, made where there is none. One that is there keeps what it has: images are added, and
/// take over the names that they share with others. See OCI image spec, image-layout.md.
class oci_layout_target
{
public:
    explicit oci_layout_target(std::filesystem::path directory) : directory_(std::move(directory)) {}

    /// Blobs come first, `index.json` last: until then a reader sees the layout as it was.
    ///
    /// *Errors*: those of the layers, `invalid_asset` where one is damaged; `unknown_archive_format` for a directory
    /// that holds something else; those of `index` for a damaged layout; errno values, stage target. *Cancellation*:
    /// any; takes effect between pieces. *Concurrency*: not two at a time into one directory: one's entries would be
    /// lost.
    OVERMOUNT_LAZY
    [[nodiscard]] boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const;

private:
    std::filesystem::path directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/exporter/impl/oci_layout_target.ipp>
#endif

#endif
