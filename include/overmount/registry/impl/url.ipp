#ifndef OVERMOUNT_REGISTRY_IMPL_URL_IPP
#define OVERMOUNT_REGISTRY_IMPL_URL_IPP

#include <overmount/registry/ascii.hpp>
#include <overmount/registry/url.hpp>

#include <overmount/core/error.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <system_error>
#include <utility>

#include <arpa/inet.h>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// The subject is what cannot hold a secret: neither a query nor, where there is an `@`, a password.
inline error url_error(errc code, std::string_view text, std::string_view why)
{
    error out(code);
    out.at(stage::source).operation("parse URL").detail(why);
    if (text.find('@') == std::string_view::npos)
        out.subject(text.substr(0, text.find_first_of("?#")));
    return out;
}

inline void require_url_bytes(std::string_view text)
{
    if (text.size() > max_url_bytes)
        throw url_error(errc::malformed_answer, {}, "the URL is too long");
    for (const char c : text)
        if (c <= ' ' || c > '~' || c == '\\') // also refuses bytes above 0x7f where char is signed
            throw url_error(errc::malformed_answer, text, "the URL has a character that must be percent-encoded");
}

inline bool is_url_digit(char c) noexcept
{
    return c >= '0' && c <= '9';
}
inline bool is_url_alpha(char c) noexcept
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The length of the scheme that `text` starts with; 0 if it is a relative reference.
inline std::size_t url_scheme_size(std::string_view text) noexcept
{
    std::size_t size = 0;
    const auto fits = [](char c) { return is_url_alpha(c) || is_url_digit(c) || c == '+' || c == '-' || c == '.'; };
    while (size < text.size() && (size == 0 ? is_url_alpha(text[size]) : fits(text[size])))
        ++size;
    return size < text.size() && text[size] == ':' ? size : 0;
}

using url_address = std::array<unsigned char, 16>;

// An address as IPv6: an IPv4 address is mapped (::ffff:a.b.c.d).
inline std::optional<url_address> parse_url_address(std::string_view text)
{
    if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos)
        return std::nullopt;
    const std::string terminated(text);
    url_address out{};
    if (::inet_pton(AF_INET6, terminated.c_str(), out.data()) == 1)
        return out;
    out = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return ::inet_pton(AF_INET, terminated.c_str(), &out[12]) == 1 ? std::optional(out) : std::nullopt;
}

struct url_network
{
    const char* address;
    unsigned bits;
};
inline constexpr url_network url_loopback_networks[] = {{"127.0.0.0", 96 + 8}, {"::1", 128}};
inline constexpr url_network url_private_networks[] = {
    {"0.0.0.0", 96 + 8},      {"10.0.0.0", 96 + 8},    {"100.64.0.0", 96 + 10},  {"127.0.0.0", 96 + 8},
    {"169.254.0.0", 96 + 16}, {"172.16.0.0", 96 + 12}, {"192.168.0.0", 96 + 16}, {"::", 96}, // ::, ::1, IPv4-compatible ones
    {"fc00::", 7},            {"fe80::", 10},
};

template <std::size_t N>
bool url_address_in(std::string_view text, const url_network (&networks)[N])
{
    const auto address = parse_url_address(text);
    if (!address)
        return false;
    for (const url_network& network : networks) {
        const url_address prefix = parse_url_address(network.address).value();
        unsigned bit = 0;
        while (bit < network.bits && (((*address)[bit / 8] ^ prefix[bit / 8]) & (0x80u >> bit % 8)) == 0)
            ++bit;
        if (bit == network.bits)
            return true;
    }
    return false;
}

// What the resolver may take for an IPv4 address (inet_aton(3)) ends in a number.
inline bool is_number_label(std::string_view label) noexcept
{
    return label.starts_with("0x") ? label.find_first_not_of("0123456789abcdef", 2) == std::string_view::npos
                                   : label.find_first_not_of("0123456789") == std::string_view::npos;
}

// A name, in lower case, or an IPv4 address.
inline bool is_url_host(std::string_view host)
{
    if (host.size() > 255)
        return false;
    const std::string_view name = host.ends_with('.') ? host.substr(0, host.size() - 1) : host;
    std::string_view label;
    for (std::size_t begin = 0; begin <= name.size();) {
        const std::size_t end = std::min(name.find('.', begin), name.size());
        label = name.substr(begin, end - begin);
        if (label.empty() || label.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_") != std::string_view::npos)
            return false;
        begin = end + 1;
    }
    return !is_number_label(label) || parse_url_address(host);
}

// `path` starts with `/`. See RFC 3986, section 5.2.4.
inline std::string remove_dot_segments(std::string_view path)
{
    std::string out;
    while (!path.empty()) {
        const std::size_t end = std::min(path.find('/', 1), path.size());
        const std::string_view segment = path.substr(0, end);
        path.remove_prefix(end);
        if (segment != "/." && segment != "/..") {
            out += segment;
            continue;
        }
        if (segment == "/.." && !out.empty())
            out.erase(out.rfind('/'));
        if (path.empty())
            out += '/';
    }
    return out;
}

} // namespace detail

OVERMOUNT_DECL url url::parse(std::string_view text)
{
    detail::require_url_bytes(text);
    const auto refuse = [text](const char* why) { return detail::url_error(errc::malformed_answer, text, why); };
    const std::size_t scheme_size = detail::url_scheme_size(text);
    if (scheme_size == 0)
        throw refuse("the URL has no scheme");
    std::string_view rest = text.substr(scheme_size + 1);
    url out;
    out.scheme_ = ascii_lower(text.substr(0, scheme_size));
    if (out.scheme_ != "http" && out.scheme_ != "https")
        throw detail::url_error(errc::redirect_refused, text, "only http and https URLs are followed");
    if (!rest.starts_with("//"))
        throw refuse("the URL has no host");
    rest.remove_prefix(2);
    const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
    std::string_view target = rest.substr(authority.size());
    target = target.substr(0, target.find('#'));
    if (authority.find('@') != std::string_view::npos)
        throw refuse("the URL has user information");

    const bool bracketed = authority.starts_with('[');
    const std::size_t bracket = bracketed ? 1 : 0;
    const std::size_t host_end = bracketed ? authority.find(']') : std::min(authority.find(':'), authority.size());
    out.host_ = ascii_lower(authority.substr(bracket, host_end - bracket));
    const bool is_ipv6 = out.host_.find(':') != std::string::npos && detail::parse_url_address(out.host_);
    if (host_end == std::string_view::npos || !(bracketed ? is_ipv6 : detail::is_url_host(out.host_)))
        throw refuse("the host of the URL is not valid");

    const std::string_view port = authority.substr(host_end + bracket);
    out.port_ = out.is_https() ? 443 : 80;
    if (!port.empty() && port != ":") { // an empty port is the default one: RFC 3986, section 3.2.3
        const auto [end, failure] = std::from_chars(port.data() + 1, port.data() + port.size(), out.port_);
        if (port.front() != ':' || failure != std::errc() || end != port.data() + port.size() || out.port_ == 0)
            throw refuse("the port of the URL is not valid");
    }
    return out.with_target((target.starts_with('/') ? "" : "/") + std::string(target));
}

OVERMOUNT_DECL std::string url::bracketed_host() const
{
    return host_.find(':') == std::string::npos ? host_ : "[" + host_ + "]";
}

OVERMOUNT_DECL std::string url::authority() const
{
    return bracketed_host() + (port_ == (is_https() ? 443 : 80) ? "" : ":" + std::to_string(port_));
}

OVERMOUNT_DECL std::string url::origin() const
{
    return scheme_ + "://" + authority();
}

OVERMOUNT_DECL std::string url::string() const
{
    return origin() + target_;
}

OVERMOUNT_DECL std::string url::without_query() const
{
    return origin() + target_.substr(0, target_.find('?'));
}

OVERMOUNT_DECL bool url::same_origin(const url& other) const noexcept
{
    return scheme_ == other.scheme_ && host_ == other.host_ && port_ == other.port_;
}

OVERMOUNT_DECL url url::resolve(std::string_view reference) const
{
    detail::require_url_bytes(reference);
    if (detail::url_scheme_size(reference) > 0)
        return parse(reference);
    if (reference.starts_with("//"))
        return parse(scheme_ + ":" + std::string(reference));
    reference = reference.substr(0, reference.find('#'));
    if (reference.empty())
        return *this;
    if (reference.front() == '/')
        return with_target(std::string(reference));
    const std::string path = target_.substr(0, target_.find('?'));
    const std::string_view own_path = reference.substr(0, reference.find('?'));
    if (own_path.empty())
        return with_target(path + std::string(reference));
    return with_target(detail::remove_dot_segments(path.substr(0, path.rfind('/') + 1) + std::string(own_path)) +
                       std::string(reference.substr(own_path.size())));
}

OVERMOUNT_DECL url url::with_target(std::string target) const
{
    detail::require_url_bytes(target);
    if (!target.starts_with('/') || target.find('#') != std::string::npos)
        throw detail::url_error(errc::malformed_answer, target, "not the path and query of a URL");
    url out = *this;
    out.target_ = std::move(target);
    if (out.string().size() > max_url_bytes)
        throw detail::url_error(errc::malformed_answer, {}, "the URL is too long");
    return out;
}

OVERMOUNT_DECL url url::with_query(std::string_view more) const
{
    return with_target(target_ + (target_.find('?') == std::string::npos ? "?" : "&") + std::string(more));
}

OVERMOUNT_DECL std::string percent_encode(std::string_view text)
{
    constexpr char hex[] = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (detail::is_url_alpha(c) || detail::is_url_digit(c) || std::string_view("-._~").find(c) != std::string_view::npos)
            out += c;
        else
            out.append({'%', hex[byte >> 4], hex[byte & 15]});
    }
    return out;
}

OVERMOUNT_DECL bool is_loopback(std::string_view host)
{
    std::string name = ascii_lower(host);
    if (name.ends_with('.'))
        name.pop_back();
    return name == "localhost" || name.ends_with(".localhost") || detail::url_address_in(host, detail::url_loopback_networks);
}

OVERMOUNT_DECL bool is_private_address(std::string_view ip_literal)
{
    return detail::url_address_in(ip_literal.substr(0, ip_literal.find('%')), detail::url_private_networks);
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
