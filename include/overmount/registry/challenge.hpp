#ifndef OVERMOUNT_REGISTRY_CHALLENGE_HPP
#define OVERMOUNT_REGISTRY_CHALLENGE_HPP

#include <overmount/core/config.hpp>
#include <overmount/registry/url.hpp>

#include <optional>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// One challenge of a 401: what the server wants to be shown. Parameters that are missing are empty.
class challenge
{
public:
    // Declared so that the class is not an aggregate: GCC 12 destroys aggregate temporaries of a co_await expression twice.
    challenge() = default;

    std::string scheme; ///< in lower case: `bearer`, `basic` or another
    std::string realm;  ///< of Bearer, the URL of the token server; text from outside
    std::string service;
    std::string scope; ///< scopes, separated by spaces
    std::string error; ///< why the token that was shown was refused, such as `invalid_token`

    friend bool operator==(const challenge&, const challenge&) = default;
};

/// The challenges in the values of all WWW-Authenticate headers of an answer, in order.
///
/// It never throws for what the server wrote. What is not understood is skipped: other parameters, token68, parameters with
/// control characters, and strings without an end. Of a parameter that occurs twice, the first counts. Values above 16 KiB and
/// challenges after the 16th are skipped. See RFC 9110, section 11.6.1.
[[nodiscard]] std::vector<challenge> parse_challenges(const std::vector<std::string>& header_values);

/// The challenge to answer, or nothing if none can be answered: the first Bearer with a realm, or else, with credentials, the
/// first Basic.
[[nodiscard]] std::optional<challenge> choose_challenge(const std::vector<challenge>& offered, bool have_credentials);

/// The URL of the token server.
/// \param registry the URL that was answered with the challenge; a relative realm is resolved against it.
/// Throws `error` with `errc::redirect_refused` if its scheme is not http or https, and as `require_safe_destination` does: if it
/// leads from https to http, or from a public host to a private address; with `errc::malformed_answer` if it is no URL.
[[nodiscard]] url realm_url(const url& registry, const challenge& bearer);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/challenge.ipp>
#endif

#endif
