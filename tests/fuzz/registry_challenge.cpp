#include "fuzz.hpp"

#include <overmount/registry/challenge.hpp>
#include <overmount/registry/token_request.hpp>

#include <string>
#include <vector>

namespace {

bool has_controls(std::string_view text)
{
    for (const char c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
            return true;
    return false;
}

} // namespace

// The header values of an answer are separated by line feeds, and lead to the request for a token.
void check(std::string_view input)
{
    using namespace overmount::registry;
    std::vector<std::string> values(1);
    for (const char c : input) {
        if (c == '\n')
            values.emplace_back();
        else
            values.back() += c;
    }
    const std::vector<challenge> found = parse_challenges(values);
    MUST(found.size() <= 16);
    for (const challenge& each : found) {
        MUST(!each.scheme.empty() && each.scheme.find_first_of(" \t,=\"ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos);
        for (const std::string* part : {&each.scheme, &each.realm, &each.service, &each.scope, &each.error})
            MUST(!has_controls(*part) && part->size() <= input.size());
    }
    MUST(!choose_challenge(found, false) || choose_challenge(found, true) == choose_challenge(found, false));
    const auto chosen = choose_challenge(found, true);
    if (!chosen || chosen->scheme != "bearer")
        return;
    const auto scopes = merge_scopes(chosen->scope, {pull_scope("a/b")});
    MUST(!scopes.empty() && scopes.size() <= 16);
    MUST(merge_scopes("", scopes) == scopes);
    const url registry = url::parse("https://registry.example.com/v2/");
    const url realm = realm_url(registry, *chosen);
    MUST(realm.is_https() && !is_loopback(realm.host()) && !is_private_address(realm.host()));
    const auto secret_text = std::string("hunter2hunter2");
    for (const token_request& each : token_request::plan_token_requests(
             realm, *chosen, scopes, overmount::registry_credentials::identity_token(secret_text))) {
        MUST(each.target().same_origin(realm) && each.target().string().starts_with(realm.string()));
        MUST(!has_controls(each.target().string()) && !has_controls(each.body().reveal()));
        MUST(input.find(secret_text) != std::string_view::npos || each.target().string().find(secret_text) == std::string::npos);
    }
}
