#ifndef OVERMOUNT_REGISTRY_SETTINGS_PROXY_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_PROXY_HPP

#include <overmount/registry/credentials.hpp>
#include <overmount/registry/settings/environment.hpp>
#include <overmount/registry/url.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI::registry {

/// An HTTP proxy. For an https target the client sends CONNECT, for an http target the absolute form: RFC 9110, section 9.3.6,
/// and RFC 9112, section 3.2.2.
class proxy
{
public:
    /// \param address the proxy's scheme, host and port; its target is ignored
    explicit proxy(url address, registry_credentials credentials = {})
        : address_(std::move(address)), credentials_(std::move(credentials))
    {
    }

    /// How the proxy itself is spoken to: `http`, or `https` for TLS.
    [[nodiscard]] const std::string& scheme() const noexcept { return address_.scheme(); }
    [[nodiscard]] const std::string& host() const noexcept { return address_.host(); }
    [[nodiscard]] std::uint16_t port() const noexcept { return address_.port(); }
    /// For Proxy-Authorization, which goes to the proxy alone: with CONNECT it is not in the requests inside.
    [[nodiscard]] const registry_credentials& credentials() const noexcept { return credentials_; }

private:
    url address_;
    registry_credentials credentials_;
};

/// The proxy for requests to `target`; nullopt: directly. Variables: `https_proxy`, `HTTPS_PROXY` for https targets;
/// `http_proxy`, `HTTP_PROXY` for http targets; `no_proxy`, `NO_PROXY`. The first that is set and not empty counts. `HTTP_PROXY`
/// is ignored where `REQUEST_METHOD` is set: there it is a header of a CGI request. Loopback is always direct.
/// Throws `error` with `errc::invalid_settings`, which names the variable and not its value, if the proxy's URL is malformed or
/// is neither http nor https.
[[nodiscard]] std::optional<proxy> proxy_for(const url& target, const environment& from);

/// Whether `no_proxy` excludes a host from proxying. It is a list, separated by commas or spaces: `*`; an address; a network such
/// as `10.0.0.0/8`; `example.com`, which includes its subdomains; `.example.com` or `*.example.com`, subdomains only. All but
/// networks may have a `:port`. An entry that is none of these matches nothing.
/// \param host without brackets
[[nodiscard]] bool bypasses_proxy(std::string_view no_proxy, std::string_view host, std::uint16_t port);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/proxy.ipp>
#endif

#endif
