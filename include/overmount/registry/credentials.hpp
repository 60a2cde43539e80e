#ifndef OVERMOUNT_REGISTRY_CREDENTIALS_HPP
#define OVERMOUNT_REGISTRY_CREDENTIALS_HPP

#include <overmount/core/config.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {
namespace registry {
class authorization;

/// Text that must not be shown: it cannot be streamed or converted, so that whoever takes the text out has to write `reveal`.
class secret
{
public:
    secret() = default;
    explicit secret(std::string text) : text_(std::move(text)) {}

    [[nodiscard]] bool empty() const noexcept { return text_.empty(); }
    /// For the bytes of a request, and never for an error or a log. Valid as long as this object is unchanged.
    [[nodiscard]] const std::string& reveal() const noexcept { return text_; }

    friend bool operator==(const secret&, const secret&) = default;

private:
    std::string text_;
};

} // namespace registry

/// What a user proves to a registry who they are with: nothing, a user and a password, an identity token, or a bearer token.
/// The secret in it cannot be read or printed.
///
/// The makers throw `error` with `errc::login_refused`, which does not show the secret, if a part has control characters or is
/// longer than 1 MiB. Without a secret and a user the result is empty.
class registry_credentials
{
public:
    /// No credentials: anonymous.
    registry_credentials() = default;

    /// A colon in `user` throws, too: see RFC 7617, section 2. The user `<token>` has an identity token for a password, as in
    /// docker's credential helpers.
    [[nodiscard]] static registry_credentials password(std::string user, std::string password);
    /// docker's `identitytoken`, the refresh token of OAuth 2: the token server gives access tokens for it.
    [[nodiscard]] static registry_credentials identity_token(std::string token);
    /// docker's `registrytoken`: it is sent to the registry as it is.
    [[nodiscard]] static registry_credentials bearer(std::string token);

    /// Whether there are any.
    explicit operator bool() const noexcept { return kind_ != kind::none; }
    /// The user; `<token>` for an identity token, and empty for a bearer token.
    [[nodiscard]] const std::string& user() const noexcept { return user_; }

    friend bool operator==(const registry_credentials&, const registry_credentials&) = default;

private:
    friend class registry::authorization;
    enum class kind : unsigned char
    {
        none,
        password,
        identity_token,
        bearer,
    };
    registry_credentials(kind what, std::string user, std::string text);

    kind kind_ = kind::none;
    std::string user_;
    registry::secret secret_;
};

namespace registry {

/// The one reader of the secrets in `registry_credentials`: what a request shows of them.
class authorization
{
public:
    /// `Basic ` and the user and the password in base64; for an identity token the user is empty. Empty for other credentials.
    /// See RFC 7617.
    [[nodiscard]] static secret basic_header(const registry_credentials& credentials);
    /// `Bearer ` and the token. See RFC 6750, section 2.1.
    [[nodiscard]] static secret bearer_header(std::string_view token);
    /// The same of a bearer token that the user has. Empty for other credentials: ask the token server.
    [[nodiscard]] static secret bearer_header(const registry_credentials& credentials);
    /// Name and value of the form fields that ask for an access token, not yet percent-encoded. Empty unless the credentials are
    /// an identity token. See RFC 6749, section 6.
    [[nodiscard]] static std::vector<std::pair<std::string_view, secret>> form_fields(const registry_credentials& credentials);
};

} // namespace registry
} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/credentials.ipp>
#endif

#endif
