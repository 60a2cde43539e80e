#ifndef OVERMOUNT_REGISTRY_URL_HPP
#define OVERMOUNT_REGISTRY_URL_HPP

#include <overmount/core/config.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {

/// The longest URL or reference to one that is accepted, in bytes.
inline constexpr std::size_t max_url_bytes = 16 * 1024;

/// An absolute `http` or `https` URL. Path and query stay byte for byte as they were written, because signatures and upload
/// states of registries depend on them. Boost.URL refuses characters that real servers send and rewrites bytes, hence this class.
///
/// Invariants, except of a default-constructed value, which is empty: scheme and host are in lower case, the port is not 0, the
/// target starts with `/`, and no part has a control character, a space, a backslash, `#` or a byte above 0x7e.
///
/// The query may hold a secret (a signed link): print `without_query()` only.
/// See RFC 3986 and RFC 9110, section 4.2.
class url
{
public:
    url() = default;

    /// Parses an absolute URL. An empty path becomes `/`; the fragment is dropped.
    /// Throws `error` with `errc::redirect_refused` if the scheme is not `http` or `https`, and with `errc::malformed_answer` for
    /// anything else that is not such a URL: user information, bytes that must be percent-encoded, a bad host or port, more than
    /// `max_url_bytes`. An IPv4 address in any form but `a.b.c.d` is a bad host: `getaddrinfo` would accept `127.1` or
    /// `0x7f000001`.
    [[nodiscard]] static url parse(std::string_view text);

    /// `http` or `https`.
    [[nodiscard]] const std::string& scheme() const noexcept { return scheme_; }
    [[nodiscard]] bool is_https() const noexcept { return scheme_ == "https"; }
    /// A name or an address. An IPv6 address has no brackets here: this is the form for a resolver.
    [[nodiscard]] const std::string& host() const noexcept { return host_; }
    /// The host as it stands in a URL: an IPv6 address in brackets.
    [[nodiscard]] std::string bracketed_host() const;
    /// The explicit port, or the default of the scheme.
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    /// Path and query: what goes into the request line.
    [[nodiscard]] const std::string& target() const noexcept { return target_; }

    /// `host` or `host:port`, without the default port of the scheme: the value of the header `Host`.
    [[nodiscard]] std::string authority() const;
    /// `https://host` or `https://host:port`, without the default port of the scheme.
    [[nodiscard]] std::string origin() const;
    /// The whole URL, secrets of the query included. It parses to the same value.
    [[nodiscard]] std::string string() const;
    /// The URL for messages: without the query.
    [[nodiscard]] std::string without_query() const;

    /// Whether scheme, host and port are equal: credentials for one may then be sent to the other.
    /// See RFC 6454, section 5.
    [[nodiscard]] bool same_origin(const url& other) const noexcept;

    /// The URL that `reference` means on a page at this URL, for example in `Location` or `Link`. Dot segments are removed only
    /// where a relative path was merged; an absolute path stays as it is.
    /// Errors are those of `parse`. See RFC 3986, section 5.2.
    [[nodiscard]] url resolve(std::string_view reference) const;

    /// This URL with another path and query. Throws `error` with `errc::malformed_answer` if `target` does not start with `/`,
    /// has a fragment or bytes that must be percent-encoded, or is too long.
    [[nodiscard]] url with_target(std::string target) const;
    /// Appends `more`, which is percent-encoded already, to the query: after `?` if there is none, else after `&`. Throws like
    /// `with_target`.
    [[nodiscard]] url with_query(std::string_view more) const;

    friend bool operator==(const url&, const url&) = default;
    /// An arbitrary order, for keys of containers.
    friend std::strong_ordering operator<=>(const url&, const url&) = default;

private:
    std::string scheme_, host_;
    std::uint16_t port_ = 0;
    std::string target_;
};

/// Encodes a value of a query: every byte but the unreserved characters of RFC 3986, section 2.3.
[[nodiscard]] std::string percent_encode(std::string_view text);

/// Whether a host, without brackets, is this machine: `localhost`, `*.localhost` (RFC 6761), 127.0.0.0/8 or `::1`.
[[nodiscard]] bool is_loopback(std::string_view host);

/// Whether an address is not one of the public internet: private (RFC 1918, fc00::/7), loopback, link-local, shared
/// (100.64.0.0/10), "this network" (0.0.0.0/8, `::`), or an IPv6 address that maps one of these. A zone (`%eth0`) is ignored.
/// \param ip_literal an address without brackets; false for any other text, names included.
[[nodiscard]] bool is_private_address(std::string_view ip_literal);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/url.ipp>
#endif

#endif
