#ifndef OVERMOUNT_REGISTRY_TOKEN_REQUEST_HPP
#define OVERMOUNT_REGISTRY_TOKEN_REQUEST_HPP

#include <overmount/registry/challenge.hpp>
#include <overmount/registry/credentials.hpp>
#include <overmount/registry/url.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// The scope for reading a repository: `repository:library/busybox:pull`. See the distribution docs, "Token Scope Documentation".
[[nodiscard]] std::string pull_scope(std::string_view repository);

/// The scopes to ask for: those of the challenge at hand first, because some servers read only the first, then those that are
/// known already. Each resource occurs once, with all its actions in alphabetical order. At most 16 scopes.
/// \param demanded_now the `scope` of the challenge: scopes separated by spaces, or empty
[[nodiscard]] std::vector<std::string> merge_scopes(std::string_view demanded_now, const std::vector<std::string>& known);

/// A request to a token server. The secrets in it cannot be printed; its URL has none.
class token_request
{
public:
    /// The requests to try in order: for an identity token a POST as of OAuth 2, and then, as for all others, a GET. None for a
    /// bearer token: send `authorization::bearer_header` to the registry.
    /// \param realm from `realm_url`
    /// \param scopes from `merge_scopes`
    /// Throws `error` with `errc::malformed_answer` if the URL becomes longer than `max_url_bytes`.
    /// See the distribution docs, "Token Authentication Specification" and "Oauth2 Token Authentication".
    [[nodiscard]] static std::vector<token_request> plan_token_requests(const url& realm, const challenge& bearer,
                                                                        const std::vector<std::string>& scopes,
                                                                        const registry_credentials& credentials);

    /// `GET` or `POST`.
    [[nodiscard]] std::string_view method() const noexcept { return post_ ? "POST" : "GET"; }
    [[nodiscard]] const url& target() const noexcept { return target_; }
    /// The body of a POST.
    [[nodiscard]] const secret& body() const noexcept { return body_; }
    /// The value of Content-Type; empty without a body.
    [[nodiscard]] std::string_view content_type() const noexcept { return post_ ? "application/x-www-form-urlencoded" : ""; }
    /// The value of Authorization; empty if the header is not sent.
    [[nodiscard]] const secret& authorization_header() const noexcept { return authorization_; }

    /// Whether to try the next request of the plan after this one was answered with `status`: a server that does not know the
    /// POST answers 400, 401, 404 or 405.
    [[nodiscard]] bool try_next(unsigned status) const noexcept;

private:
    token_request(url target, bool post, secret body, secret authorization);

    url target_;
    bool post_;
    secret body_, authorization_;
};

/// A token, and how long it is good.
class token_answer
{
public:
    token_answer(secret token, std::chrono::steady_clock::time_point expires) : token_(std::move(token)), expires_(expires) {}

    [[nodiscard]] const secret& token() const noexcept { return token_; }
    /// When to fetch a new one: 5 seconds before the token server's time is up.
    [[nodiscard]] std::chrono::steady_clock::time_point expires() const noexcept { return expires_; }

private:
    secret token_;
    std::chrono::steady_clock::time_point expires_;
};

/// Reads the body of a token server's answer with status 200. The token is `token` or else `access_token`. It is good for
/// `expires_in` seconds from `received`, at least 60 and at most a day; for 60 where that is not a number. `issued_at` is by a
/// clock that may be wrong, and is not read.
/// \param received when the answer arrived
/// Throws `error` with `errc::malformed_answer`, which shows nothing of the token, if the body is not JSON or larger than 1 MiB,
/// or the token is missing or has control characters.
[[nodiscard]] token_answer parse_token_answer(std::string_view json, std::chrono::steady_clock::time_point received);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/token_request.ipp>
#endif

#endif
