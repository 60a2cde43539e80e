#include <overmount/registry/settings/auth_file.hpp>

#include <overmount/core/error.hpp>
#include <overmount/registry/base64.hpp>

#include "support/catch.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace {

using overmount::errc;
using overmount::registry_credentials;
using overmount::registry::auth_file;
using overmount::registry::auth_file_paths;
using overmount::registry::auth_lookup;
using overmount::registry::base64_encode;
using overmount::registry::named_helper;

auth_file parsed(const std::string& text)
{
    return auth_file::parse(text, "/etc/auth.json");
}

// An entry of `auths`, as docker writes it.
std::string login(const std::string& key, const std::string& password)
{
    return "\"" + key + R"(": {"auth": ")" + base64_encode("me:" + password) + "\"}";
}

auth_lookup as_me(const std::string& password)
{
    return auth_lookup(registry_credentials::password("me", password));
}

auth_lookup helper(const std::string& name, const std::string& server)
{
    return auth_lookup(named_helper(name, server));
}

// What `call` throws; the test fails if it throws nothing.
template <class Call>
overmount::error failure_of(const Call& call)
{
    try {
        (void)call();
    } catch (const overmount::error& failure) {
        return failure;
    }
    FAIL("nothing was thrown");
    return overmount::error(errc::invalid_settings);
}

overmount::error refusal(const std::string& text)
{
    return failure_of([&] { return parsed(text); });
}

TEST_CASE("auth file: the entry with the longest key of whole components is found")
{
    const auth_file file = parsed(R"({"auths": {)" + login("host.example", "host") + "," + login("host.example/ns", "ns") + "," +
                                  login("host.example/ns/repo", "repo") + "," + login("host.example:5000", "port") + "}}");
    const std::vector<std::vector<std::string>> rows = {
        {"host.example", "ns/repo", "repo"},        {"host.example", "ns/repo/deeper", "repo"},
        {"host.example", "ns/repository", "ns"},    {"host.example", "ns", "ns"},
        {"host.example", "nsx/repo", "host"},       {"host.example", "other", "host"},
        {"host.example", "", "host"},               {"host.example:5000", "ns/repo", "port"},
        {"HOST.example", "ns/repo", "repo"},
    };
    for (const auto& row : rows) {
        INFO(row[0] << '/' << row[1]);
        CHECK(file.find(row[0], row[1]) == as_me(row[2]));
    }
    for (const std::string domain : {"example", "a.host.example", "host.example.org", "host.example:443", "docker.io"}) {
        INFO(domain);
        CHECK_FALSE(file.find(domain, "ns/repo"));
    }
}

TEST_CASE("auth file: a key may be a URL")
{
    for (const std::string key : {"https://host.example/v1/", "https://host.example/v2/", "https://host.example/v1", "http://host.example",
                                  "https://host.example/", "https://HOST.example", "host.example/v1/", "host.example/"}) {
        INFO(key);
        const auth_file file = parsed(R"({"auths": {)" + login(key, "url") + "}}");
        CHECK(file.find("host.example", "a/b") == as_me("url"));
        CHECK_FALSE(file.find("other.example", "a/b"));
    }
    const auth_file below = parsed(R"({"auths": {)" + login("https://host.example/ns/", "url") + "}}");
    CHECK(below.find("host.example", "ns/b") == as_me("url"));
    CHECK_FALSE(below.find("host.example", "a/b"));
    const auth_file name = parsed(R"({"auths": {)" + login("host.example/v1", "namespace") + "}}");
    CHECK(name.find("host.example", "v1/b") == as_me("namespace"));
    CHECK_FALSE(name.find("host.example", "a/b"));
}

TEST_CASE("auth file: docker.io has several names")
{
    for (const std::string key : {"https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"}) {
        INFO(key);
        const auth_file file = parsed(R"({"auths": {)" + login(key, "hub") + "}}");
        CHECK(file.find("docker.io", "library/busybox") == as_me("hub"));
        CHECK(file.find("index.docker.io", "library/busybox") == as_me("hub"));
    }
    const auth_file file = parsed(R"({"auths": {)" + login("docker.io/library", "official") + "}}");
    CHECK(file.find("docker.io", "library/busybox") == as_me("official"));
    CHECK_FALSE(file.find("docker.io", "user/app"));
}

TEST_CASE("auth file: of keys that mean the same, the one that docker writes is found")
{
    const auth_file hub = parsed(R"({"auths": {)" + login("docker.io", "podman") + "," +
                                 login("https://index.docker.io/v1/", "docker") + "}}");
    CHECK(hub.find("docker.io", "library/busybox") == as_me("docker"));
    const auth_file host = parsed(R"({"auths": {)" + login("http://h", "http") + "," + login("https://h", "https") + "," +
                                  login("h", "host") + "}}");
    CHECK(host.find("h", "x") == as_me("host"));
    const auth_file urls = parsed(R"({"auths": {)" + login("http://h", "http") + "," + login("https://h", "https") + "}}");
    CHECK(urls.find("h", "x") == as_me("https"));
}

TEST_CASE("auth file: an entry has credentials in one of several forms")
{
    const std::string token = base64_encode("<token>:abc"), basic = base64_encode("me:pw");
    const std::pair<std::string, registry_credentials> rows[] = {
        {R"({"auth": ")" + basic + "\"}", registry_credentials::password("me", "pw")},
        {R"({"auth": ")" + base64_encode("me:p:w:") + "\"}", registry_credentials::password("me", "p:w:")},
        {R"({"auth": ")" + base64_encode("me:") + "\"}", registry_credentials::password("me", "")},
        {R"({"auth": ")" + base64_encode(":pw") + "\"}", registry_credentials::password("", "pw")},
        {R"({"auth": ")" + token + "\"}", registry_credentials::identity_token("abc")},
        {R"({"username": "me", "password": "pw"})", registry_credentials::password("me", "pw")},
        {R"({"auth": ")" + basic + R"(", "username": "you", "password": "no"})", registry_credentials::password("me", "pw")},
        {R"({"auth": ")" + basic + R"(", "identitytoken": "id"})", registry_credentials::identity_token("id")},
        {R"({"auth": ")" + basic + R"(", "identitytoken": "id", "registrytoken": "reg"})", registry_credentials::bearer("reg")},
        {R"({"auth": null, "email": 1, "password": "pw", "username": null})", registry_credentials::password("", "pw")},
    };
    for (const auto& [entry, wanted] : rows) {
        INFO(entry);
        CHECK(parsed(R"({"auths": {"h": )" + entry + "}}").find("h", "x") == auth_lookup(wanted));
    }
}

TEST_CASE("auth file: an entry without a secret is passed over")
{
    for (const std::string entry : {"{}", "null", R"({"auth": ""})", R"({"username": "me"})", R"({"email": "a@b"})", R"({"auth": "Og=="})"}) {
        INFO(entry);
        CHECK_FALSE(parsed(R"({"auths": {"h": )" + entry + "}}").find("h", "x"));
        CHECK(parsed(R"({"auths": {"h/ns": )" + entry + "," + login("h", "host") + "}}").find("h", "ns/x") == as_me("host"));
        CHECK(parsed(R"({"auths": {"h": )" + entry + R"(}, "credsStore": "pass"})").find("h", "x") == helper("pass", "h"));
    }
}

TEST_CASE("auth file: the old form is the map itself")
{
    const auth_file file = auth_file::parse("{" + login("https://index.docker.io/v1/", "old") + "}", "/home/user/.dockercfg");
    CHECK(file.find("docker.io", "library/busybox") == as_me("old"));
    // Not everything without `auths` is of the old form.
    CHECK_FALSE(parsed(R"({"HttpHeaders": {"h": "x"}, "detachKeys": "ctrl-e"})").find("h", "x"));
    CHECK_FALSE(parsed(R"({"plugins": {"auth": {}}, "detachKeys": "ctrl-e"})").find("plugins", "x"));
    CHECK_FALSE(parsed(R"({"auths": {}, )" + login("h", "no") + "}").find("h", "x"));
}

TEST_CASE("auth file: the helper of the host comes before the entries, and these before the store")
{
    const std::string auths = R"("auths": {)" + login("h", "file") + "}";
    CHECK(parsed("{" + auths + R"(, "credHelpers": {"h": "gcloud"}, "credsStore": "pass"})").find("h", "x") == helper("gcloud", "h"));
    CHECK(parsed("{" + auths + R"(, "credHelpers": {"other": "gcloud"}, "credsStore": "pass"})").find("h", "x") == as_me("file"));
    CHECK(parsed(R"({"credHelpers": {"h": "gcloud"}, "credsStore": "pass"})").find("other", "x") == helper("pass", "other"));
    CHECK(parsed(R"({"credHelpers": {"h": "gcloud"}})").find("h", "deep/er") == helper("gcloud", "h"));
    CHECK_FALSE(parsed(R"({"credHelpers": {"h": "gcloud"}, "credsStore": ""})").find("other", "x"));
    // An empty name turns the store off for a host.
    CHECK_FALSE(parsed(R"({"credHelpers": {"h": ""}, "credsStore": "pass"})").find("h", "x"));
    CHECK(parsed("{" + auths + R"(, "credHelpers": {"h": ""}, "credsStore": "pass"})").find("h", "x") == as_me("file"));
}

TEST_CASE("auth file: a helper is asked for the key that it was named with, and the store as docker asks it")
{
    CHECK(parsed(R"({"credHelpers": {"docker.io": "a"}})").find("docker.io", "x/y") == helper("a", "docker.io"));
    CHECK(parsed(R"({"credHelpers": {"https://index.docker.io/v1/": "a"}})").find("docker.io", "x/y") ==
          helper("a", "https://index.docker.io/v1/"));
    CHECK(parsed(R"({"credsStore": "pass"})").find("docker.io", "x/y") == helper("pass", "https://index.docker.io/v1/"));
    CHECK(parsed(R"({"credsStore": "pass"})").find("h:5000", "x/y") == helper("pass", "h:5000"));
}

TEST_CASE("auth file: a login belongs into the helper of the host, or the store")
{
    const auth_file file = parsed(R"({"auths": {)" + login("h", "file") + R"(}, "credHelpers": {"a": "x", "b": ""}, "credsStore": "pass"})");
    CHECK(file.helper_of("a") == named_helper("x", "a"));
    CHECK_FALSE(file.helper_of("b"));
    CHECK(file.helper_of("h") == named_helper("pass", "h"));
    CHECK_FALSE(parsed("{}").helper_of("h"));
}

TEST_CASE("auth file: an empty file has no entries")
{
    for (const std::string text : {"", " \n", "{}", R"({"auths": null, "credHelpers": null, "credsStore": null})"}) {
        INFO(text);
        CHECK_FALSE(parsed(text).find("h", "x"));
    }
}

TEST_CASE("auth file: a malformed file is refused, and the error shows the file and nothing of its content")
{
    for (const std::string text :
         {R"({"auths": {"h": {"auth": "s3cret)", R"("s3cret")", R"({"a": "s3cret"} s3cret)", R"([{"s3cret": 1}])", "null", "s3cret",
          R"({"auths": "s3cret"})", R"({"auths": {"h": "s3cret"}})", R"({"auths": {"s3cret": {"auth": 7}}})",
          R"({"auths": {"h": {"username": ["s3cret"], "password": "s3cret"}}})", R"({"auths": {"h": {"password": {}}}})",
          R"({"auths": {"h": {"identitytoken": true}}})", R"({"auths": {"h": {"registrytoken": 1}}})", R"({"credHelpers": "s3cret"})",
          R"({"credHelpers": {"s3cret": 1}})", R"({"credHelpers": {"s3cret": null}})", R"({"credsStore": {"s3cret": 1}})",
          R"({"s3cret": 1e999})", "{\"s3cret\": \"\xff\"}"}) {
        INFO(text);
        const overmount::error failure = refusal(text);
        CHECK(failure.code() == errc::invalid_settings);
        CHECK(failure.subject() == "/etc/auth.json");
        CHECK(std::string(failure.what()).find("s3cret") == std::string::npos);
    }
    CHECK(refusal(std::string("{}\0{", 4)).code() == errc::invalid_settings);
    CHECK(refusal("{} \n!").detail() == "it is not JSON, at byte 5");
}

TEST_CASE("auth file: an entry without a valid user and password is an error once it is needed")
{
    for (const std::string& auth : {std::string("*s3cret*"), base64_encode("s3cret"), base64_encode("a\nb:s3cret"),
                                    base64_encode("me:s3cret\x01")}) {
        INFO(auth);
        const auth_file file = parsed(R"({"auths": {"h": {"auth": ")" + auth + R"("}, )" + login("other", "fine") + "}}");
        CHECK(file.find("other", "x") == as_me("fine"));
        const overmount::error failure = failure_of([&] { return file.find("h", "x"); });
        CHECK(failure.code() == errc::invalid_settings);
        CHECK(failure.subject() == "/etc/auth.json");
        CHECK(std::string(failure.what()).find("s3cret") == std::string::npos);
        CHECK(std::string(failure.what()).find(auth) == std::string::npos);
    }
    const auth_file colon = parsed(R"({"auths": {"h": {"username": "a:b", "password": "s3cret"}}})");
    CHECK(failure_of([&] { return colon.find("h", "x"); }).code() == errc::invalid_settings);
}

TEST_CASE("auth file: size, depth and number of keys are bounded")
{
    const auto spaces = [](std::size_t count) { return std::string(count, ' '); };
    CHECK_NOTHROW(parsed("{}" + spaces(auth_file::max_bytes - 2)));
    CHECK(refusal("{}" + spaces(auth_file::max_bytes - 1)).code() == errc::invalid_settings);
    CHECK(refusal(spaces(auth_file::max_bytes + 1)).code() == errc::invalid_settings);

    const auto nested = [](unsigned depth) { return R"({"x": )" + std::string(depth, '[') + std::string(depth, ']') + "}"; };
    const unsigned most = overmount::limits().json_depth;
    CHECK_NOTHROW(parsed(nested(most - 1)));
    CHECK(refusal(nested(most)).detail() == "the file is nested too deeply");
    CHECK(refusal(nested(500'000)).detail() == "the file is nested too deeply");
    const std::string objects = R"({"a":{"a":{"a":{}}}})";
    overmount::limits bounds;
    bounds.json_depth = 4;
    CHECK_NOTHROW(auth_file::parse(objects, "f", bounds));
    bounds.json_depth = 3;
    CHECK(failure_of([&] { return auth_file::parse(objects, "f", bounds); }).detail() == "the file is nested too deeply");

    const auto keys = [](std::size_t count) {
        std::string out = "{";
        for (std::size_t i = 0; i < count; ++i)
            out += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":0";
        return out + "}";
    };
    CHECK_NOTHROW(parsed(keys(auth_file::max_keys)));
    CHECK(refusal(keys(auth_file::max_keys + 1)).detail() == "the file has too many keys");
}

TEST_CASE("auth file: a login is added, and everything else stays as it was")
{
    const std::string before = R"({"zeta": [1, {"b": null, "a": true}], "auths": {"h": {"auth": "b2xkOm9sZA==", "email": "e"},)" +
                               login("k", "k") + R"(}, "credsStore": "pass", "alpha": "\u00fc"})";
    const std::string after = "{\n\t\"zeta\": [\n\t\t1,\n\t\t{\n\t\t\t\"b\": null,\n\t\t\t\"a\": true\n\t\t}\n\t],\n\t\"auths\": {\n"
                              "\t\t\"h\": {\n\t\t\t\"auth\": \"bWU6bmV3\"\n\t\t},\n\t\t\"k\": {\n\t\t\t\"auth\": \"bWU6aw==\"\n\t\t}\n\t},\n"
                              "\t\"credsStore\": \"pass\",\n\t\"alpha\": \"\xc3\xbc\"\n}\n";
    CHECK(parsed(before).with_login("h", "me", "new") == after);
    CHECK(parsed("").with_login("h", "me", "new") == "{\n\t\"auths\": {\n\t\t\"h\": {\n\t\t\t\"auth\": \"bWU6bmV3\"\n\t\t}\n\t}\n}\n");
    CHECK(parsed(R"({"auths": null})").with_login("h", "me", "new") == parsed("").with_login("h", "me", "new"));
}

TEST_CASE("auth file: a login that was written is found")
{
    for (const std::string key : {"h", "h:5000", "h:5000/ns/repo", "docker.io", "index.docker.io", "docker.io/ns/repo", "https://h/v1/"}) {
        INFO(key);
        const std::string domain = key.starts_with("https") ? "h" : key.substr(0, key.find('/'));
        const std::string text = parsed(R"({"credsStore": "pass"})").with_login(key, "me", "p:w");
        CHECK(parsed(text).find(domain, "ns/repo") == as_me("p:w"));
    }
    const std::string token = parsed("").with_login("h", "<token>", "id");
    CHECK(parsed(token).find("h", "x") == auth_lookup(registry_credentials::identity_token("id")));
    CHECK(parsed("").with_login("HOST", "me", "x").find("\"host\"") != std::string::npos);
}

TEST_CASE("auth file: a login of docker.io is written where docker and podman find it")
{
    for (const std::string key : {"docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"})
        CHECK(parsed("").with_login(key, "me", "x").find(R"("https://index.docker.io/v1/")") != std::string::npos);
}

TEST_CASE("auth file: a login replaces the entries for the same place, however they are written")
{
    const auth_file file = parsed(R"({"auths": {)" + login("docker.io", "1") + "," + login("https://index.docker.io/v1/", "2") + "," +
                                  login("docker.io/ns", "3") + R"(, "http://h": {"identitytoken": "old"}}})");
    const std::string hub = file.with_login("docker.io", "me", "new");
    CHECK(hub.find(base64_encode("me:1")) == std::string::npos);
    CHECK(hub.find(base64_encode("me:2")) == std::string::npos);
    CHECK(parsed(hub).find("docker.io", "library/x") == as_me("new"));
    CHECK(parsed(hub).find("docker.io", "ns/x") == as_me("3"));
    const std::string host = file.with_login("h", "me", "new");
    CHECK(host.find("http://h") == std::string::npos);
    CHECK(parsed(host).find("h", "x") == as_me("new"));
}

TEST_CASE("auth file: the old form stays the old form")
{
    const auth_file file = parsed("{" + login("a", "1") + "," + login("b", "2") + "}");
    const std::string added = file.with_login("c", "me", "3");
    CHECK(added.find("auths") == std::string::npos);
    CHECK(parsed(added).find("a", "x") == as_me("1"));
    CHECK(parsed(added).find("c", "x") == as_me("3"));
    const std::string removed = file.without_login("a").value();
    CHECK_FALSE(parsed(removed).find("a", "x"));
    CHECK(parsed(removed).find("b", "x") == as_me("2"));
}

TEST_CASE("auth file: a logout removes the entries for the place and nothing else")
{
    const auth_file file = parsed(R"({"auths": {)" + login("docker.io", "1") + "," + login("https://index.docker.io/v1/", "2") + "," +
                                  login("docker.io/ns", "3") + R"(, "h": {}}, "other": 1})");
    const std::string text = file.without_login("docker.io").value();
    CHECK(text.find("\"other\": 1") != std::string::npos);
    CHECK_FALSE(parsed(text).find("docker.io", "library/x"));
    CHECK(parsed(text).find("docker.io", "ns/x") == as_me("3"));
    CHECK_FALSE(parsed(text).without_login("docker.io"));
    CHECK(file.without_login("h").value().find("\"h\"") == std::string::npos);
    CHECK_FALSE(file.without_login("k"));
    CHECK_FALSE(file.without_login("docker.io/n"));
    CHECK_FALSE(parsed("").without_login("h"));
}

TEST_CASE("auth file: a login that could not be read again is refused")
{
    const auth_file file = parsed("");
    CHECK(failure_of([&] { return file.with_login("", "me", "x"); }).code() == errc::invalid_settings);
    CHECK(failure_of([&] { return file.with_login("https://", "me", "x"); }).code() == errc::invalid_settings);
    CHECK(failure_of([&] { return file.with_login("\xff", "me", "x"); }).code() == errc::invalid_settings);
    CHECK(failure_of([&] { return file.with_login("h", "a:b", "s3cret"); }).code() == errc::login_refused);
    CHECK(failure_of([&] { return file.with_login("h", "a", "s3\ncret"); }).code() == errc::login_refused);
    CHECK(failure_of([&] { return file.with_login("h", "", ""); }).code() == errc::login_refused);
}

TEST_CASE("auth file: the places are those of podman and docker, in their order")
{
    const auto paths = [](const std::map<std::string, std::string>& environment, const std::string& explicit_file = {}) {
        const auto variable = [&](const std::string& name) -> std::optional<std::string> {
            const auto found = environment.find(name);
            return found == environment.end() ? std::nullopt : std::optional(found->second);
        };
        return auth_file_paths(variable, 1000, explicit_file);
    };
    using list = std::vector<std::string>;
    CHECK(paths({{"HOME", "/home/me"}}) == list{"/run/containers/1000/auth.json", "/home/me/.config/containers/auth.json",
                                               "/home/me/.docker/config.json", "/home/me/.dockercfg"});
    const std::map<std::string, std::string> all = {{"HOME", "/home/me"},       {"REGISTRY_AUTH_FILE", "reg.json"},
                                                    {"XDG_RUNTIME_DIR", "/run/user/1000"}, {"XDG_CONFIG_HOME", "/conf"},
                                                    {"DOCKER_CONFIG", "/docker"}};
    CHECK(paths(all, "mine.json") == list{"mine.json", "reg.json", "/run/user/1000/containers/auth.json",
                                          "/conf/containers/auth.json", "/docker/config.json", "/home/me/.dockercfg"});
    CHECK(paths(all).front() == "reg.json");
    CHECK(paths({{"HOME", ""}, {"REGISTRY_AUTH_FILE", ""}, {"XDG_RUNTIME_DIR", ""}, {"XDG_CONFIG_HOME", ""}, {"DOCKER_CONFIG", ""}}) ==
          list{"/run/containers/1000/auth.json"});
    CHECK(paths({}) == list{"/run/containers/1000/auth.json"});
}

} // namespace
