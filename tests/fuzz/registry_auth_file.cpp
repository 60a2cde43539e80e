#include "fuzz.hpp"

#include <overmount/registry/settings/auth_file.hpp>

#include <string>

namespace {

using overmount::registry_credentials;
using overmount::registry::auth_file;
using overmount::registry::auth_lookup;

// What is found is a helper or credentials, not both. A broken entry is an error of the file.
auth_lookup lookup(const auth_file& file, std::string_view domain, std::string_view path)
{
    try {
        const auth_lookup found = file.find(domain, path);
        MUST(!(found.helper() && found.credentials()));
        MUST(!found.helper() || !found.helper()->name().empty());
        return found;
    } catch (const overmount::error& failure) {
        MUST(failure.code() == overmount::errc::invalid_settings && failure.subject() == "auth.json");
    }
    return {};
}

} // namespace

// A login is found after it was written, and not after it was removed; other lookups stay as they were.
void check(std::string_view input)
{
    const auth_file file = auth_file::parse(input, "auth.json");
    const auth_lookup other = lookup(file, "localhost:5000", "a/b");
    (void)lookup(file, "docker.io", "");
    for (const std::string place : {"docker.io/library/x", "h/a/b"}) {
        const auto slash = place.find('/');
        const std::string domain = place.substr(0, slash), path = place.substr(slash + 1);
        (void)lookup(file, domain, path);
        const auth_file in = auth_file::parse(file.with_login(place, "me", "p:w"), "auth.json");
        const auth_lookup found = lookup(in, domain, path);
        const bool of_host = file.helper_of(domain) && found.helper() == file.helper_of(domain);
        MUST(of_host || found.credentials() == registry_credentials::password("me", "p:w"));
        MUST(lookup(in, "localhost:5000", "a/b") == other);
        const auto text = in.without_login(place);
        MUST(text && !auth_file::parse(*text, "auth.json").without_login(place));
    }
}
