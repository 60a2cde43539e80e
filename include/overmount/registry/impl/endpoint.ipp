#ifndef OVERMOUNT_REGISTRY_IMPL_ENDPOINT_IPP
#define OVERMOUNT_REGISTRY_IMPL_ENDPOINT_IPP

#include <overmount/registry/endpoint.hpp>

#include <overmount/core/digest.hpp>
#include <overmount/core/error.hpp>
#include <overmount/oci/reference.hpp>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline bool is_docker_hub(std::string_view domain) noexcept
{
    return domain == "docker.io" || domain == "index.docker.io" || domain == "registry-1.docker.io";
}

} // namespace detail

OVERMOUNT_DECL url registry_url(const std::string& domain, bool plain_http)
{
    try {
        const url out =
            url::parse((plain_http ? "http://" : "https://") + (detail::is_docker_hub(domain) ? "registry-1.docker.io" : domain));
        if (domain.find_first_of("/?#") == std::string::npos)
            return out;
    } catch (const error&) {
        // It is no answer of a registry that is malformed here.
    }
    // User information is refused, and not shown.
    throw error(errc::invalid_reference)
        .at(stage::source)
        .subject(std::string_view(domain).substr(domain.rfind('@') + 1))
        .detail("not the domain of a registry");
}

OVERMOUNT_DECL std::string api_path(std::string_view repository, api_kind kind, std::string_view tag_or_digest)
{
    if (kind == api_kind::base)
        return "/v2/";
    const bool by_tag = kind == api_kind::manifest && tag_or_digest.find(':') == std::string_view::npos;
    const std::string name(repository), tag(by_tag ? tag_or_digest : "x");
    (void)reference::parse("X/" + name + ":" + tag); // validates both; X is the shortest domain
    const auto valid_digest = [tag_or_digest] { return overmount::digest::parse(tag_or_digest).string(); };
    const std::string base = "/v2/" + name;
    switch (kind) {
    case api_kind::manifest:
        return base + "/manifests/" + (by_tag ? tag : valid_digest());
    case api_kind::blob:
        return base + "/blobs/" + valid_digest();
    case api_kind::referrers:
        return base + "/referrers/" + valid_digest();
    default:
        return base + "/tags/list";
    }
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
