#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_PROXY_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_PROXY_IPP

#include <overmount/registry/ascii.hpp>
#include <overmount/registry/settings/proxy.hpp>

#include <overmount/core/error.hpp>
#include <overmount/registry/impl/url.ipp>

#include <algorithm>
#include <charconv>
#include <iterator>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline bool is_mapped_address(const url_address& address)
{
    constexpr unsigned char prefix[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::equal(std::begin(prefix), std::end(prefix), address.begin());
}

// Whether the address is in `network`, which is `address/bits`.
inline bool proxy_network_has(std::string_view network, const url_address& address)
{
    const auto slash = network.find('/');
    const auto base = parse_url_address(network.substr(0, slash));
    const std::string_view text = network.substr(slash + 1);
    unsigned bits = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), bits);
    const bool mapped = base && is_mapped_address(*base);
    if (!base || failure != std::errc() || end != text.data() + text.size() || bits > (mapped ? 32u : 128u) ||
        mapped != is_mapped_address(address))
        return false;
    for (unsigned bit = 0; bit < bits + (mapped ? 96 : 0); ++bit)
        if ((((*base)[bit / 8] ^ address[bit / 8]) & (0x80u >> bit % 8)) != 0)
            return false;
    return true;
}

// `entry` and `host` are in lower case.
inline bool no_proxy_entry_matches(std::string_view entry, const std::string& host, const std::optional<url_address>& address,
                                   std::uint16_t port)
{
    if (entry == "*")
        return true;
    if (entry.find('/') != std::string_view::npos)
        return address && proxy_network_has(entry, *address);
    std::string_view name = entry;
    // `host:port`, `[v6]:port` or `[v6]`; more than one colon without brackets is an IPv6 address.
    const auto colon = entry.rfind(':');
    const bool bracketed = entry.starts_with('[');
    if (colon != std::string_view::npos && (bracketed ? entry[colon - 1] == ']' : entry.find(':') == colon)) {
        name = entry.substr(0, colon);
        if (entry.substr(colon + 1) != std::to_string(port))
            return false;
    }
    if (bracketed && name.ends_with(']'))
        name = name.substr(1, name.size() - 2);
    if (const auto own = parse_url_address(name))
        return own == address;
    if (name.starts_with("*."))
        name.remove_prefix(1);
    if (name.empty() || name == "." || address)
        return false;
    return name.front() == '.' ? host.ends_with(name) : host == name || host.ends_with("." + std::string(name));
}

inline std::string proxy_percent_decode(std::string_view text)
{
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        unsigned byte = 0;
        const std::string_view digits = text.substr(i + 1, 2);
        const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
        if (digits.size() != 2 || failure != std::errc() || end != digits.data() + 2)
            throw error(errc::invalid_settings);
        out += static_cast<char>(byte);
        i += 2;
    }
    return out;
}

// `http` is the default scheme. The errors say nothing; the caller names the variable.
inline proxy parse_proxy(std::string_view text)
{
    const auto mark = text.find("://");
    const std::string scheme(mark == std::string_view::npos ? "http" : text.substr(0, mark));
    std::string_view authority = text.substr(mark == std::string_view::npos ? 0 : mark + 3);
    authority = authority.substr(0, authority.find_first_of("/?#"));
    registry_credentials credentials;
    if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
        const std::string_view user = authority.substr(0, at);
        const auto colon = std::min(user.find(':'), user.size());
        credentials = registry_credentials::password(proxy_percent_decode(user.substr(0, colon)),
                                                     proxy_percent_decode(user.substr(std::min(colon + 1, user.size()))));
        authority.remove_prefix(at + 1);
    }
    return proxy(url::parse(scheme + "://" + std::string(authority)), std::move(credentials));
}

} // namespace detail

OVERMOUNT_DECL std::optional<proxy> proxy_for(const url& target, const environment& from)
{
    if (is_loopback(target.host()))
        return std::nullopt;
    std::string name = target.scheme() + "_proxy"; // `https_proxy`, `http_proxy`
    auto value = detail::variable(from, name);
    if (!value && (target.is_https() || !detail::variable(from, "REQUEST_METHOD"))) {
        name = target.is_https() ? "HTTPS_PROXY" : "HTTP_PROXY";
        value = detail::variable(from, name);
    }
    if (!value)
        return std::nullopt;
    auto excluded = detail::variable(from, "no_proxy");
    if (!excluded)
        excluded = detail::variable(from, "NO_PROXY");
    if (excluded && bypasses_proxy(*excluded, target.host(), target.port()))
        return std::nullopt;
    try {
        return detail::parse_proxy(*value);
    } catch (const error&) {
        throw error(errc::invalid_settings)
            .at(stage::source)
            .operation("read " + name)
            .detail("not the URL of an http or https proxy; its value is not shown");
    }
}

OVERMOUNT_DECL bool bypasses_proxy(std::string_view no_proxy, std::string_view host, std::uint16_t port)
{
    const std::string list = ascii_lower(no_proxy);
    const std::string name = ascii_lower(host.substr(0, host.size() - (host.ends_with('.') ? 1 : 0)));
    const auto address = detail::parse_url_address(name);
    for (std::size_t begin = 0; begin < list.size();) {
        const std::size_t end = std::min(list.find_first_of(", \t", begin), list.size());
        const std::string_view entry = std::string_view(list).substr(begin, end - begin);
        if (!entry.empty() && detail::no_proxy_entry_matches(entry, name, address, port))
            return true;
        begin = end + 1;
    }
    return false;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
