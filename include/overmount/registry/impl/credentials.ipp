#ifndef OVERMOUNT_REGISTRY_IMPL_CREDENTIALS_IPP
#define OVERMOUNT_REGISTRY_IMPL_CREDENTIALS_IPP

#include <overmount/core/error.hpp>
#include <overmount/registry/base64.hpp>
#include <overmount/registry/credentials.hpp>

#include <cstddef>

namespace overmount::OVERMOUNT_ABI {
namespace registry::detail {

inline constexpr std::size_t max_secret_bytes = std::size_t{1} << 20;

inline bool has_auth_controls(std::string_view text) noexcept
{
    for (const char c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
            return true;
    return false;
}

inline void check_credential(std::string_view text)
{
    const char* why = nullptr;
    if (text.size() > max_secret_bytes)
        why = "the user or the secret is longer than 1 MiB";
    else if (has_auth_controls(text))
        why = "the user or the secret has control characters, such as a line break";
    if (why != nullptr)
        throw error(errc::login_refused).at(stage::source).operation("log in").detail(why);
}

} // namespace registry::detail

OVERMOUNT_DECL registry_credentials::registry_credentials(kind what, std::string user, std::string text)
    : kind_(what), user_(std::move(user)), secret_(std::move(text))
{
    registry::detail::check_credential(user_);
    registry::detail::check_credential(secret_.reveal());
}

OVERMOUNT_DECL registry_credentials registry_credentials::password(std::string user, std::string password)
{
    if (user == "<token>")
        return identity_token(std::move(password));
    if (user.empty() && password.empty())
        return {};
    if (user.find(':') != std::string::npos)
        throw error(errc::login_refused).at(stage::source).operation("log in").detail("the user has a colon");
    return {kind::password, std::move(user), std::move(password)};
}

OVERMOUNT_DECL registry_credentials registry_credentials::identity_token(std::string token)
{
    if (token.empty())
        return {};
    return {kind::identity_token, "<token>", std::move(token)};
}

OVERMOUNT_DECL registry_credentials registry_credentials::bearer(std::string token)
{
    if (token.empty())
        return {};
    return {kind::bearer, {}, std::move(token)};
}

namespace registry {

OVERMOUNT_DECL secret authorization::basic_header(const registry_credentials& credentials)
{
    using kind = registry_credentials::kind;
    const std::string& text = credentials.secret_.reveal();
    if (credentials.kind_ == kind::password)
        return secret("Basic " + base64_encode(credentials.user_ + ":" + text));
    if (credentials.kind_ == kind::identity_token)
        return secret("Basic " + base64_encode(":" + text));
    return {};
}

OVERMOUNT_DECL secret authorization::bearer_header(std::string_view token)
{
    return secret("Bearer " + std::string(token));
}

OVERMOUNT_DECL secret authorization::bearer_header(const registry_credentials& credentials)
{
    if (credentials.kind_ != registry_credentials::kind::bearer)
        return {};
    return bearer_header(credentials.secret_.reveal());
}

OVERMOUNT_DECL std::vector<std::pair<std::string_view, secret>>
authorization::form_fields(const registry_credentials& credentials)
{
    if (credentials.kind_ != registry_credentials::kind::identity_token)
        return {};
    return {{"grant_type", secret("refresh_token")}, {"refresh_token", credentials.secret_}};
}

} // namespace registry
} // namespace overmount::OVERMOUNT_ABI

#endif
