#ifndef OVERMOUNT_REGISTRY_REGISTRY_IMAGE_HPP
#define OVERMOUNT_REGISTRY_REGISTRY_IMAGE_HPP

#include <overmount/importer/importer.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/registry/registry_options.hpp>

#include <boost/asio/awaitable.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// An image in a registry, as an importer: layers are unpacked while they arrive, and no temporary file is written.
///
/// Connections are kept in a pool of the executor's context, which all pulls there share; see `registry::connection_pool` for its
/// bounds. A stream that fails continues at the byte that it needs.
/// *Concurrency*: thread-safe; each operation has its own client.
class registry_image
{
public:
    /// \param name with a tag, a digest, or both: then the digest counts. Neither means the tag `latest`.
    explicit registry_image(reference name, registry_options options = registry_options())
        : image_(name.with_default_tag()), options_(std::move(options))
    {}
    /// \param name such as `busybox`, `ghcr.io/owner/name:tag`. Throws `errc::invalid_reference`.
    explicit registry_image(std::string_view name, registry_options options = registry_options())
        : registry_image(reference::parse(name), std::move(options))
    {}

    [[nodiscard]] const reference& name() const noexcept { return image_; }
    [[nodiscard]] const registry_options& options() const noexcept { return options_; }

    /// Fetches manifest and config of the wanted platform. The tag of the image becomes a tag in the repository, unless there is a
    /// digest.
    ///
    /// *Errors*: those of `registry::client`; of `index`, `manifest` and `image_config`; `digest_mismatch`, `size_mismatch`,
    /// `no_matching_platform`, `unsupported_media_type`. *Cancellation*: all types.
    [[nodiscard]] boost::asio::awaitable<std::vector<found_image>> discover(import_context context) const;

    /// The images that a short name may mean by the user's registries.conf, in the order in which to try them; see
    /// `registry::references_for`. \param workers read settings files
    [[nodiscard]] static boost::asio::awaitable<std::vector<reference>> references_for(std::string name, registry_options options,
                                                                                       worker_pool workers);

    /// Asks, by HEAD, which digest the tag has. A hint, never a proof; nullopt if the registry does not say.
    /// \param workers read settings files
    [[nodiscard]] boost::asio::awaitable<std::optional<digest>> current_digest(worker_pool workers) const;
    /// Fetches the manifest or index, verbatim. It is verified if the image is named by a digest.
    [[nodiscard]] boost::asio::awaitable<std::string> manifest(worker_pool workers) const;
    /// All tags of the image's repository.
    [[nodiscard]] boost::asio::awaitable<std::vector<std::string>> tags(worker_pool workers) const;

private:
    reference image_;
    registry_options options_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/registry_image.ipp>
#endif

#endif
