#ifndef OVERMOUNT_REGISTRY_IMPL_MIRRORS_IPP
#define OVERMOUNT_REGISTRY_IMPL_MIRRORS_IPP

#include <overmount/registry/mirrors.hpp>

#include <overmount/core/error.hpp>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// Sets what follows from the address of `out`.
inline void identify_host(registry_host& out, const reference& image, const std::string& domain, const host_options& options)
{
    out.is_origin = out.base.authority() == registry_url(image.domain(), !out.base.is_https()).authority();
    out.credentials_domain = out.is_origin ? image.domain() : domain;
    if (!out.is_origin || options.tls() == tls_mode::verified)
        return;
    if (options.tls() == tls_mode::plain)
        out.base = registry_url(image.domain(), true).with_target(out.base.target());
    else
        out.skip_verify = out.plain_http = true;
}

inline registry_host host_of_domain(const reference& image, const std::pair<std::string, std::string>& place, bool insecure,
                                    const host_options& options)
{
    registry_host out;
    out.base = registry_url(place.first, false).with_target("/v2");
    out.repository = place.second;
    out.skip_verify = insecure;
    out.plain_http = insecure || is_loopback(out.base.host());
    identify_host(out, image, place.first, options);
    return out;
}

inline registry_host host_of_toml(const reference& image, const hosts_toml_host& settings, const host_options& options)
{
    registry_host out;
    if (settings.root == url()) {
        out = host_of_domain(image, {image.domain(), image.path()}, false, options);
    } else {
        const std::string domain = settings.root.authority();
        out.base = registry_url(domain, !settings.root.is_https()).with_target(settings.root.target()); // docker.io
        out.repository = image.path();
        identify_host(out, image, domain, options);
    }
    out.skip_verify = out.skip_verify || settings.skip_verify;
    out.ns = out.is_origin ? "" : image.domain();
    out.resolve = settings.resolve;
    out.pull = settings.pull;
    out.certificates = settings.certificates;
    out.headers = settings.headers;
    out.dial_timeout = settings.dial_timeout;
    return out;
}

inline bool mirror_is_used(const reference& image, const registry_entry& entry, const registry_mirror& mirror)
{
    const auto pull = entry.mirror_by_digest_only ? pull_from_mirror::digest_only : mirror.pull;
    return pull == pull_from_mirror::all || (pull == pull_from_mirror::digest_only) == image.digest().has_value();
}

} // namespace detail

OVERMOUNT_DECL url registry_host::url_of(std::string_view api_path) const
{
    constexpr std::string_view root = "/v2";
    const std::string prefix = base.target() == "/" ? "" : base.target();
    const url out = base.with_target(prefix + std::string(api_path.substr(std::min(root.size(), api_path.size()))));
    return ns.empty() ? out : out.with_query("ns=" + percent_encode(ns));
}

OVERMOUNT_DECL std::vector<registry_host> hosts_for(const reference& image, const registries_conf* conf, const hosts_toml* toml,
                                                    const host_options& options)
{
    const auto refuse = [&image](const char* why) {
        return error(errc::registry_blocked).at(stage::source).subject(image.string()).detail(why);
    };
    const registry_entry* entry = conf != nullptr ? conf->find(image) : nullptr;
    if (entry != nullptr && entry->blocked)
        throw refuse("registries.conf blocks it");
    std::vector<registry_host> out;
    const auto add = [&](registry_host host) {
        const auto same = std::find_if(out.begin(), out.end(), [&host](const registry_host& earlier) {
            return earlier.base == host.base && earlier.repository == host.repository && earlier.resolve >= host.resolve &&
                   earlier.pull >= host.pull;
        });
        if (same == out.end() && (host.pull || host.resolve) && (options.origin() || !host.is_origin))
            out.push_back(std::move(host));
    };
    if (toml != nullptr) {
        for (const hosts_toml_host& host : toml->hosts())
            add(detail::host_of_toml(image, host, options));
        add(detail::host_of_toml(image, toml->server(), options));
    } else if (entry != nullptr) {
        for (const registry_mirror& mirror : entry->mirrors)
            if (detail::mirror_is_used(image, *entry, mirror))
                add(detail::host_of_domain(image, relocate(image, *entry, mirror.location), mirror.insecure, options));
        add(detail::host_of_domain(image, relocate(image, *entry, entry->location), entry->insecure, options));
    } else {
        add(detail::host_of_domain(image, {image.domain(), image.path()}, false, options));
    }
    if (out.empty())
        throw refuse("the settings leave no host to ask for it");
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
