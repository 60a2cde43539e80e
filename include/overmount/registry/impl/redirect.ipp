#ifndef OVERMOUNT_REGISTRY_IMPL_REDIRECT_IPP
#define OVERMOUNT_REGISTRY_IMPL_REDIRECT_IPP

#include <overmount/registry/redirect.hpp>

#include <overmount/core/error.hpp>

#include <string>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline error redirect_error(errc code, const url& about, std::string_view why)
{
    return error(code).at(stage::source).operation("follow redirect").subject(about.without_query()).detail(why);
}

inline bool is_inside(const url& value)
{
    return is_loopback(value.host()) || is_private_address(value.host());
}

} // namespace detail

OVERMOUNT_DECL bool is_redirect(unsigned status) noexcept
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

OVERMOUNT_DECL void require_safe_destination(const url& from, const url& to)
{
    if (from.is_https() && !to.is_https())
        throw detail::redirect_error(errc::redirect_refused, to, "it leads from https to http");
    if (detail::is_inside(to) && !detail::is_inside(from))
        throw detail::redirect_error(errc::redirect_refused, to, "it leads from a public host to a private address");
}

OVERMOUNT_DECL redirect_decision follow(const url& from, unsigned status, std::string_view location, unsigned already)
{
    if (!is_redirect(status))
        throw detail::redirect_error(errc::malformed_answer, from, "the status is not a redirect");
    if (location.empty())
        throw detail::redirect_error(errc::malformed_answer, from, "a redirect without a location");
    if (already >= max_redirects)
        throw detail::redirect_error(errc::redirect_refused, from, "more than " + std::to_string(max_redirects) + " redirects");
    url target = from.resolve(location);
    require_safe_destination(from, target);
    const bool same = target.same_origin(from);
    return {std::move(target), same};
}

OVERMOUNT_DECL bool wants_fresh_link(unsigned status) noexcept
{
    return status == 400 || status == 401 || status == 403;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
