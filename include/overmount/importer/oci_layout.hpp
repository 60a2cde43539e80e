#ifndef OVERMOUNT_IMPORTER_OCI_LAYOUT_HPP
#define OVERMOUNT_IMPORTER_OCI_LAYOUT_HPP

#include <overmount/importer/importer.hpp>

#include <string>

namespace overmount::OVERMOUNT_ABI {

/// The images of an OCI layout, which is a directory or a tar. See OCI image spec, image-layout.md.
class oci_layout
{
public:
    /// \param path a directory with `oci-layout` and `index.json`, or an uncompressed tar of such a directory
    /// \param name a reference name in the index, or an image name such as `busybox:1.36`; empty for all images
    explicit oci_layout(std::string path, std::string name = {})
        : path_(std::move(path)), name_(std::move(name))
    {}

    /// Finds the images.
    ///
    /// *Errors*: errno values, stage source; `unknown_archive_format`, `missing_blob`, `missing_image`,
    /// `ambiguous_image`, `no_matching_platform`, `unsupported_media_type`, `digest_mismatch`,
    /// `size_mismatch`, and those of `index`, `manifest` and `image_config`. *Cancellation*: any type; takes
    /// effect between images.
    OVERMOUNT_LAZY [[nodiscard]] boost::asio::awaitable<std::vector<found_image>> discover(import_context context) const;

private:
    std::string path_, name_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/oci_layout.ipp>
#endif

#endif
