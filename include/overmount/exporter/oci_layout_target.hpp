#ifndef OVERMOUNT_EXPORTER_OCI_LAYOUT_TARGET_HPP
#define OVERMOUNT_EXPORTER_OCI_LAYOUT_TARGET_HPP

#include <overmount/exporter/exporter.hpp>

#include <filesystem>

namespace overmount::OVERMOUNT_ABI {

/// An OCI layout in a directory, which is created if it does not exist. Images are added to an existing layout; they replace
/// entries of the same names, and everything else is kept. See OCI image spec, image-layout.md.
class oci_layout_target
{
public:
    explicit oci_layout_target(std::filesystem::path directory) : directory_(std::move(directory)) {}

    /// Writes the images: blobs first, `index.json` last. Until then readers see the previous state of the layout.
    ///
    /// *Errors*: those of reading the layers, `invalid_asset` if one is damaged; `unknown_archive_format` for a directory
    /// that is neither empty nor a layout; those of `index` for a damaged layout; errno values, stage target.
    /// *Cancellation*: any type; takes effect between pieces of data. *Concurrency*: do not write to one directory twice at the
    /// same time: the entries of one export would be lost.
    OVERMOUNT_LAZY
    [[nodiscard]] boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const;

private:
    std::filesystem::path directory_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/exporter/impl/oci_layout_target.ipp>
#endif

#endif
