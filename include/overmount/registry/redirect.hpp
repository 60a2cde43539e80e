#ifndef OVERMOUNT_REGISTRY_REDIRECT_HPP
#define OVERMOUNT_REGISTRY_REDIRECT_HPP

#include <overmount/registry/url.hpp>

#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI::registry {

/// How many redirects one request follows.
inline constexpr unsigned max_redirects = 10;

/// Where a redirect leads.
struct redirect_decision
{
    redirect_decision(url to, bool same) : target(std::move(to)), same_origin(same) {}

    url target;
    /// Whether the credentials that went with the redirected request, if any, may go along. A later redirect back to the first
    /// origin does not bring them back.
    bool same_origin;
};

/// Whether an answer with this status is a redirect: 301, 302, 303, 307 or 308.
[[nodiscard]] bool is_redirect(unsigned status) noexcept;

/// For redirects and for realms of challenges. Throws `error` with `errc::redirect_refused` if `from` may not refer to `to`: from
/// https to http, or from a public host to loopback or a private address. A host name other than `localhost` counts as public:
/// nothing is resolved here.
void require_safe_destination(const url& from, const url& to);

/// Decides whether a redirect is followed, and to where.
/// \param from the URL that was requested
/// \param location the value of the header `Location`; empty if there is none
/// \param already how many redirects led to `from`
/// Throws `error` with `errc::malformed_answer` if `status` is no redirect, or `location` is empty or not a URL; with
/// `errc::redirect_refused` after `max_redirects`, for another scheme than http and https, and as `require_safe_destination`
/// does.
/// See RFC 9110, section 15.4.
[[nodiscard]] redirect_decision follow(const url& from, unsigned status, std::string_view location, unsigned already);

/// Whether this status of a host to which a redirect led means that the signed link has expired or does not fit: ask the registry
/// once more for a fresh one.
[[nodiscard]] bool wants_fresh_link(unsigned status) noexcept;

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/redirect.ipp>
#endif

#endif
