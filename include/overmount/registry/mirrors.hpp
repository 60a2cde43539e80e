#ifndef OVERMOUNT_REGISTRY_MIRRORS_HPP
#define OVERMOUNT_REGISTRY_MIRRORS_HPP

#include <overmount/oci/reference.hpp>
#include <overmount/registry/credentials.hpp>
#include <overmount/registry/endpoint.hpp>
#include <overmount/registry/settings/certs_directory.hpp>
#include <overmount/registry/settings/hosts_toml.hpp>
#include <overmount/registry/settings/registries_conf.hpp>
#include <overmount/registry/url.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// A host that is asked for an image, and what it may do.
struct registry_host
{
    registry_host() = default;

    url base;                 ///< the root of the API, usually `https://host/v2`. Use `url_of`.
    std::string repository;   ///< the path of the image on this host
    bool skip_verify = false; ///< the certificate is not verified
    bool plain_http = false;  ///< if the host does not speak TLS, plain HTTP may be used; meaningless if `base` is http already
    std::string ns;           ///< the domain of the image, for mirrors that serve several; empty if it is not sent
    bool resolve = true;      ///< may be asked which digest a tag has
    bool pull = true;         ///< may be asked for content by digest
    bool is_origin = false;   ///< the registry that the image's name has
    std::string credentials_domain; ///< whose credentials are sent: for `find_login`
    certificate_files certificates;
    std::vector<std::pair<std::string, secret>> headers; ///< sent with each request to this host
    std::optional<std::chrono::milliseconds> dial_timeout;

    /// The URL of a path on this host, with `?ns=` if it is sent.
    /// \param api_path what `api_path` returns; its `/v2` is replaced by the root of this host
    [[nodiscard]] url url_of(std::string_view api_path) const;
};

/// Options of `hosts_for`.
class host_options
{
public:
    /// Whether the registry that the image's name has may be asked; true by default. False: only mirrors.
    host_options& origin(bool value)
    {
        origin_ = value;
        return *this;
    }
    /// How the registry that the image's name has may be reached; settings may allow more. Mirrors only have the settings.
    host_options& tls(tls_mode value)
    {
        tls_ = value;
        return *this;
    }

    [[nodiscard]] bool origin() const noexcept { return origin_; }
    [[nodiscard]] tls_mode tls() const noexcept { return tls_; }

private:
    bool origin_ = true;
    tls_mode tls_ = tls_mode::verified;
};

/// The hosts to ask for an image, in order. Mirrors are for reading: to push, ask the origin.
///
/// With a hosts.toml its hosts come first, then its server; it wins over registries.conf, of which only `blocked` still counts.
/// The image is never pulled from the origin if the server is a mirror. Otherwise the mirrors of the entry of registries.conf
/// that matches come first, then its location. Without both, the only host is the registry that the image's name has. A host that
/// occurs twice is asked once.
/// \param conf may be nullptr
/// \param toml the hosts.toml of the image's domain, or nullptr
/// Throws `error` with `errc::registry_blocked` if registries.conf blocks the image, or no host is left; with
/// `errc::invalid_settings` if a location yields a name that is not valid.
[[nodiscard]] std::vector<registry_host> hosts_for(const reference& image, const registries_conf* conf, const hosts_toml* toml,
                                                   const host_options& options = {});

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/mirrors.ipp>
#endif

#endif
