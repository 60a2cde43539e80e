#ifndef OVERMOUNT_IMPORTER_OCI_LAYOUT_HPP
#define OVERMOUNT_IMPORTER_OCI_LAYOUT_HPP

#include <overmount/importer/importer.hpp>

#include <string>

namespace overmount::inline OVERMOUNT_ABI {

/// Images of an OCI layout, a directory or a tar. See OCI image spec, image-layout.md.
class oci_layout
{
public:
    /// \param path a directory with `oci-layout` and `index.json`, or an uncompressed tar of one
    /// \param name a reference name of the index, or a name of the image such as `busybox:1.36`; all images
    ///        when empty
    explicit oci_layout(std::string path, std::string name = {})
        : path_(std::move(path)), name_(std::move(name))
    {}

    /// *Errors*: errno values of stage source; `unknown_archive_format`, `missing_blob`, `missing_image`,
    /// `ambiguous_image`, `no_matching_platform`, `unsupported_media_type`, `digest_mismatch`,
    /// `size_mismatch`, and those of `index`, `manifest` and `image_config`. *Cancellation*: any; takes
    /// effect between documents.
    OVERMOUNT_LAZY [[nodiscard]] boost::asio::awaitable<std::vector<found_image>> discover(import_context context) const;

private:
    std::string path_, name_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/oci_layout.ipp>
#endif

#endif
