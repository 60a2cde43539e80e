#ifndef OVERMOUNT_REGISTRY_ENDPOINT_HPP
#define OVERMOUNT_REGISTRY_ENDPOINT_HPP

#include <overmount/registry/url.hpp>

#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {

/// How a registry may be reached.
enum class tls_mode
{
    /// HTTPS with a verified certificate. A registry on loopback may also speak plain HTTP.
    verified,
    /// HTTPS without verification of the certificate, or plain HTTP.
    unverified,
    /// Plain HTTP.
    plain,
};

/// The URL of a registry's root, with the target `/`. `docker.io` is at `registry-1.docker.io`.
/// \param domain a host with an optional port, as in `reference::domain()`; an IPv6 address is in brackets.
/// Throws `error` with `errc::invalid_reference` if `domain` is not such a host.
[[nodiscard]] url registry_url(const std::string& domain, bool plain_http);

/// The parts of the API that are used for reading.
enum class api_kind
{
    base,      ///< `/v2/`: takes neither a repository nor anything else
    manifest,  ///< takes a tag or a digest
    blob,      ///< takes a digest
    tags,      ///< the list of tags: takes only the repository
    referrers, ///< the manifests that refer to one: takes its digest
};

/// The path of a request, such as `/v2/library/busybox/manifests/1.36`. All parts are validated, so that nothing in them can lead
/// to another path.
/// \param repository as in `reference::path()`
/// Throws `error` with `errc::invalid_digest` for a digest, and with `errc::invalid_reference` for a repository or a tag, that is
/// not valid.
/// See OCI distribution spec, "Endpoints".
[[nodiscard]] std::string api_path(std::string_view repository, api_kind kind, std::string_view tag_or_digest = {});

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/endpoint.ipp>
#endif

#endif
