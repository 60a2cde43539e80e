#ifndef OVERMOUNT_REGISTRY_IMPL_TOKEN_REQUEST_IPP
#define OVERMOUNT_REGISTRY_IMPL_TOKEN_REQUEST_IPP

#include <overmount/core/error.hpp>
#include <overmount/oci/detail/json.hpp>
#include <overmount/registry/impl/credentials.ipp>
#include <overmount/registry/token_request.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline constexpr std::size_t max_scopes = 16;
inline constexpr std::size_t max_token_answer_bytes = std::size_t{1} << 20;

inline std::vector<std::string> split_scope_text(std::string_view text, char separator)
{
    std::vector<std::string> out;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find(separator, begin), text.size());
        if (end > begin)
            out.emplace_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return out;
}

// A scope without actions, such as `openid`, has only a resource.
struct scope_parts
{
    std::string resource; // with the last colon
    std::vector<std::string> actions;
};

// A name may have colons, since it may begin with a host and port.
inline scope_parts split_scope(std::string_view text)
{
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == text.find(':'))
        return {std::string(text), {}};
    return {std::string(text.substr(0, colon + 1)), split_scope_text(text.substr(colon + 1), ',')};
}

inline void add_query_field(std::string& to, std::string_view name, std::string_view value)
{
    if (value.empty())
        return;
    to += to.empty() ? "" : "&";
    to += name;
    to += '=' + percent_encode(value);
}

inline error token_error(std::string_view field, std::string_view why)
{
    return error(errc::malformed_answer).at(stage::source).operation("fetch token").subject(field).detail(why);
}

} // namespace detail

OVERMOUNT_DECL std::string pull_scope(std::string_view repository)
{
    return "repository:" + std::string(repository) + ":pull";
}

OVERMOUNT_DECL std::vector<std::string> merge_scopes(std::string_view demanded_now, const std::vector<std::string>& known)
{
    std::vector<std::string> all = detail::split_scope_text(demanded_now, ' ');
    all.insert(all.end(), known.begin(), known.end());
    std::vector<detail::scope_parts> merged;
    for (const std::string& text : all) {
        detail::scope_parts parts = detail::split_scope(text);
        const auto same = std::find_if(merged.begin(), merged.end(),
                                       [&](const detail::scope_parts& each) { return each.resource == parts.resource; });
        if (same != merged.end())
            same->actions.insert(same->actions.end(), parts.actions.begin(), parts.actions.end());
        else if (merged.size() < detail::max_scopes)
            merged.push_back(std::move(parts));
    }
    std::vector<std::string> out;
    for (detail::scope_parts& each : merged) {
        std::sort(each.actions.begin(), each.actions.end());
        each.actions.erase(std::unique(each.actions.begin(), each.actions.end()), each.actions.end());
        std::string& text = out.emplace_back(std::move(each.resource));
        for (std::size_t i = 0; i < each.actions.size(); ++i)
            text += (i == 0 ? "" : ",") + each.actions[i];
    }
    return out;
}

OVERMOUNT_DECL token_request::token_request(url target, bool post, secret body, secret authorization)
    : target_(std::move(target)), post_(post), body_(std::move(body)), authorization_(std::move(authorization))
{}

OVERMOUNT_DECL std::vector<token_request> token_request::plan_token_requests(const url& realm, const challenge& bearer,
                                                                             const std::vector<std::string>& scopes,
                                                                             const registry_credentials& credentials)
{
    std::vector<token_request> out;
    if (!authorization::bearer_header(credentials).empty())
        return out;
    const auto fields = authorization::form_fields(credentials);
    if (!fields.empty()) {
        std::string body, all_scopes;
        for (const auto& [name, value] : fields)
            detail::add_query_field(body, name, value.reveal());
        for (const std::string& scope : scopes)
            all_scopes += (all_scopes.empty() ? "" : " ") + scope;
        detail::add_query_field(body, "service", bearer.service);
        detail::add_query_field(body, "client_id", "overmount");
        detail::add_query_field(body, "scope", all_scopes);
        out.push_back(token_request(realm, true, secret(std::move(body)), {}));
    }
    std::string query;
    detail::add_query_field(query, "service", bearer.service);
    for (const std::string& scope : scopes)
        detail::add_query_field(query, "scope", scope);
    detail::add_query_field(query, "client_id", "overmount");
    if (fields.empty()) // the user of an identity token is no account
        detail::add_query_field(query, "account", credentials.user());
    out.push_back(token_request(realm.with_query(query), false, {}, authorization::basic_header(credentials)));
    return out;
}

OVERMOUNT_DECL bool token_request::try_next(unsigned status) const noexcept
{
    return post_ && (status == 400 || status == 401 || status == 404 || status == 405);
}

OVERMOUNT_DECL token_answer parse_token_answer(std::string_view json, std::chrono::steady_clock::time_point received)
{
    std::string token, access_token;
    std::uint64_t seconds = 0;
    const auto read = [&](bool with_time) {
        limits bounds;
        bounds.json_bytes = detail::max_token_answer_bytes;
        std::vector<overmount::detail::json_field::member> members;
        members.emplace_back("token", overmount::detail::json_text(token));
        members.emplace_back("access_token", overmount::detail::json_text(access_token));
        if (with_time)
            members.emplace_back("expires_in", overmount::detail::json_number(seconds));
        overmount::detail::read_json(json, bounds, errc::malformed_answer, overmount::detail::json_map(std::move(members)),
                                     stage::source);
    };
    try {
        try {
            read(true);
        } catch (const error& failure) {
            if (failure.subject() != "expires_in")
                throw;
            seconds = 0;
            read(false);
        }
    } catch (const error& failure) {
        throw detail::token_error(failure.subject(), failure.detail().empty() ? "it is not JSON" : failure.detail());
    }
    std::string& found = token.empty() ? access_token : token;
    if (found.empty())
        throw detail::token_error("token", "the field is missing");
    if (detail::has_auth_controls(found))
        throw detail::token_error("token", "it has control characters");
    constexpr std::uint64_t shortest = 60, longest = 24 * 60 * 60, early = 5;
    seconds = std::min(std::max(seconds, shortest), longest) - early;
    return {secret(std::move(found)), received + std::chrono::seconds(static_cast<std::int64_t>(seconds))};
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
