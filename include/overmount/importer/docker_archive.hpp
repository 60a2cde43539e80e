#ifndef OVERMOUNT_IMPORTER_DOCKER_ARCHIVE_HPP
#define OVERMOUNT_IMPORTER_DOCKER_ARCHIVE_HPP

#include <overmount/importer/importer.hpp>

#include <string>

namespace overmount::OVERMOUNT_ABI {

/// The images of an archive written by `docker save` or skopeo: the old format (`<id>/layer.tar`, where layers may be links)
/// and the new one, which is an OCI layout as well, and whose manifests are kept. See moby, image/spec/v1.2.md,
/// "Combined Image JSON + Filesystem Changeset Format".
class docker_archive
{
public:
    /// \param path an uncompressed tar with `manifest.json`, or a directory with its contents
    /// \param name a tag in the archive; empty for all images
    explicit docker_archive(std::string path, std::string name = {})
        : path_(std::move(path)), name_(std::move(name))
    {}

    /// Finds the images.
    ///
    /// *Errors*: errno values, stage source; `unknown_archive_format`, `missing_blob`, `missing_image`,
    /// `digest_mismatch`, `size_mismatch`, and those of `image_config`, `manifest` and `index`.
    /// *Cancellation*: any type; takes effect between images.
    OVERMOUNT_LAZY [[nodiscard]] boost::asio::awaitable<std::vector<found_image>> discover(import_context context) const;

private:
    std::string path_, name_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/docker_archive.ipp>
#endif

#endif
