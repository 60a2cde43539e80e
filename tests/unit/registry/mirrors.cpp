#include <overmount/registry/mirrors.hpp>

#include "support/catch.hpp"

#include <string>
#include <utility>
#include <vector>

namespace {

using overmount::errc;
using overmount::reference;
using namespace overmount::registry;

const std::string digest = "@sha256:" + std::string(64, 'a');

// One line a host: its URL for the list of tags, then what differs from a verified origin that may do everything.
std::string lines(const std::vector<registry_host>& hosts)
{
    std::string out;
    for (const registry_host& host : hosts) {
        out += host.url_of(api_path(host.repository, api_kind::tags)).string();
        out += host.skip_verify ? " skip_verify" : "";
        out += host.plain_http ? " plain_http" : "";
        out += host.resolve ? "" : " no-resolve";
        out += host.pull ? "" : " no-pull";
        out += host.is_origin ? " origin" : "";
        out += " " + host.credentials_domain + "\n";
    }
    return out;
}

std::string by_conf(const std::string& image, const std::string& text, const host_options& options = {})
{
    const registries_conf conf = registries_conf::parse(text, "registries.conf");
    return lines(hosts_for(reference::parse(image), &conf, nullptr, options));
}

std::string by_toml(const std::string& image, const std::string& text, const host_options& options = {})
{
    const hosts_toml toml = hosts_toml::parse(text, "/certs/hosts.toml");
    return lines(hosts_for(reference::parse(image), nullptr, &toml, options));
}

TEST_CASE("registry hosts: without settings the registry of the name is the only one")
{
    const std::pair<std::string, std::string> rows[] = {
        {"example.com/a/b", "https://example.com/v2/a/b/tags/list origin example.com\n"},
        {"busybox", "https://registry-1.docker.io/v2/library/busybox/tags/list origin docker.io\n"},
        {"example.com:5000/a", "https://example.com:5000/v2/a/tags/list origin example.com:5000\n"},
        {"localhost:5000/a", "https://localhost:5000/v2/a/tags/list plain_http origin localhost:5000\n"},
        // Plain HTTP is tried only on loopback.
        {"10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/a/tags/list origin 10.0.0.1:5000\n"},
        {"x.localhost:5000/a", "https://x.localhost:5000/v2/a/tags/list plain_http origin x.localhost:5000\n"},
        {"127.0.0.2:5000/a", "https://127.0.0.2:5000/v2/a/tags/list plain_http origin 127.0.0.2:5000\n"},
        {"[::1]:5000/a", "https://[::1]:5000/v2/a/tags/list plain_http origin [::1]:5000\n"},
    };
    for (const auto& [image, expected] : rows) {
        INFO(image);
        CHECK(lines(hosts_for(reference::parse(image), nullptr, nullptr)) == expected);
        CHECK(by_conf(image, "") == expected);
        CHECK(by_toml(image, "") == expected);
    }
}

TEST_CASE("registry hosts: options say how the origin may be reached")
{
    const reference image = reference::parse("example.com/a");
    const auto with = [&image](tls_mode mode) { return lines(hosts_for(image, nullptr, nullptr, host_options().tls(mode))); };
    CHECK(with(tls_mode::plain) == "http://example.com/v2/a/tags/list origin example.com\n");
    CHECK(with(tls_mode::unverified) == "https://example.com/v2/a/tags/list skip_verify plain_http origin example.com\n");
    // A mirror is reached as the settings say.
    CHECK(by_toml("example.com/a", "[host.\"https://m.test\"]", host_options().tls(tls_mode::unverified)) ==
          "https://m.test/v2/a/tags/list?ns=example.com m.test\n"
          "https://example.com/v2/a/tags/list skip_verify plain_http origin example.com\n");
}

TEST_CASE("registry hosts: the mirrors of registries.conf come before the location, with their own credentials")
{
    const std::string conf = R"(
[[registry]]
prefix = "example.com/foo"
location = "internal.test/bar"
[[registry.mirror]]
location = "m0.test/for-foo"
[[registry.mirror]]
location = "m1.test:5000/mirrors/foo"
insecure = true
[[registry]]
location = "registry.test"
insecure = true
[[registry.mirror]]
location = "mirror.registry.test"
)";
    CHECK(by_conf("example.com/foo/image:1", conf) == "https://m0.test/v2/for-foo/image/tags/list m0.test\n"
                                                      "https://m1.test:5000/v2/mirrors/foo/image/tags/list skip_verify plain_http m1.test:5000\n"
                                                      "https://internal.test/v2/bar/image/tags/list internal.test\n");
    CHECK(by_conf("registry.test/image", conf) == "https://mirror.registry.test/v2/image/tags/list mirror.registry.test\n"
                                                  "https://registry.test/v2/image/tags/list skip_verify plain_http origin registry.test\n");
    CHECK(by_conf("example.com/other", conf) == "https://example.com/v2/other/tags/list origin example.com\n");
}

TEST_CASE("registry hosts: a mirror of registries.conf is used for the pulls that it allows")
{
    const auto mirrors = [](const std::string& image, const std::string& registry_key, const std::string& mirror_key) {
        const std::string found = by_conf(image, "[[registry]]\nlocation=\"a.test\"\n" + registry_key +
                                                     "\n[[registry.mirror]]\nlocation=\"m.test\"\n" + mirror_key);
        CHECK(found.find("https://a.test/") != std::string::npos);
        return found.find("https://m.test/") != std::string::npos;
    };
    const std::tuple<std::string, std::string, bool, bool> rows[] = {
        {"", "", true, true},
        {"", "pull-from-mirror=\"all\"", true, true},
        {"", "pull-from-mirror=\"digest-only\"", false, true},
        {"", "pull-from-mirror=\"tag-only\"", true, false},
        {"mirror-by-digest-only=true", "", false, true},
    };
    for (const auto& [registry_key, mirror_key, by_tag, by_digest] : rows) {
        INFO(registry_key << mirror_key);
        CHECK(mirrors("a.test/x:1", registry_key, mirror_key) == by_tag);
        CHECK(mirrors("a.test/x", registry_key, mirror_key) == by_tag);
        CHECK(mirrors("a.test/x" + digest, registry_key, mirror_key) == by_digest);
        CHECK(mirrors("a.test/x:1" + digest, registry_key, mirror_key) == by_digest);
    }
}

TEST_CASE("registry hosts: a blocked image is refused, with a hosts.toml too")
{
    const registries_conf conf = registries_conf::parse("[[registry]]\nlocation=\"a.test/ns\"\nblocked=true", "registries.conf");
    const hosts_toml toml = hosts_toml::parse("", "hosts.toml");
    for (const hosts_toml* each : {static_cast<const hosts_toml*>(nullptr), &toml}) {
        try {
            (void)hosts_for(reference::parse("a.test/ns/x:1"), &conf, each);
            FAIL("accepted");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::registry_blocked);
            CHECK(failure.subject() == "a.test/ns/x:1");
        }
    }
    CHECK(hosts_for(reference::parse("a.test/x"), &conf, nullptr).size() == 1);
}

TEST_CASE("registry hosts: the hosts of hosts.toml come in order, then the server, with ns for those that are not the origin")
{
    CHECK(by_toml("busybox", R"(
server = "https://registry-1.docker.io"
[host."http://z.test:5000"]
capabilities = ["pull"]
[host."https://a.test"]
capabilities = ["pull", "resolve"]
skip_verify = true
[host."https://push.test"]
capabilities = ["push"]
)") == "http://z.test:5000/v2/library/busybox/tags/list?ns=docker.io no-resolve z.test:5000\n"
       "https://a.test/v2/library/busybox/tags/list?ns=docker.io skip_verify a.test\n"
       "https://registry-1.docker.io/v2/library/busybox/tags/list origin docker.io\n");
    CHECK(by_toml("busybox", "server = \"https://docker.io\"") ==
          "https://registry-1.docker.io/v2/library/busybox/tags/list origin docker.io\n");
    CHECK(by_toml("a.test:5000/x", "[host.\"https://m.test\"]\ncapabilities = [\"resolve\"]") ==
          "https://m.test/v2/x/tags/list?ns=a.test%3A5000 no-pull m.test\n"
          "https://a.test:5000/v2/x/tags/list origin a.test:5000\n");
    // Another port, or plain HTTP, of the same host.
    CHECK(by_toml("a.test:5000/x", "server = \"https://a.test\"") == "https://a.test/v2/x/tags/list?ns=a.test%3A5000 a.test\n");
    CHECK(by_toml("a.test/x", "server = \"http://a.test\"") == "http://a.test/v2/x/tags/list origin a.test\n");
}

TEST_CASE("registry hosts: the path of a host in hosts.toml is the root of its API")
{
    const std::pair<std::string, std::string> rows[] = {
        {"server = \"https://m.test/cache\"", "https://m.test/cache/v2/a/tags/list?ns=x.test m.test\n"},
        {"server = \"https://m.test/v2/cache\"\noverride_path = true", "https://m.test/v2/cache/a/tags/list?ns=x.test m.test\n"},
        {"server = \"https://m.test\"\noverride_path = true", "https://m.test/a/tags/list?ns=x.test m.test\n"},
    };
    for (const auto& [text, expected] : rows) {
        INFO(text);
        CHECK(by_toml("x.test/a", text) == expected);
    }
    const hosts_toml toml = hosts_toml::parse(rows[1].first, "hosts.toml");
    const auto hosts = hosts_for(reference::parse("x.test/a"), nullptr, &toml);
    CHECK(hosts.at(0).url_of("/v2/").string() == "https://m.test/v2/cache/?ns=x.test");
    CHECK(hosts.at(0).url_of("/v2/a/tags/list?n=5").string() == "https://m.test/v2/cache/a/tags/list?n=5&ns=x.test");
}

TEST_CASE("registry hosts: the settings of a host in hosts.toml go with it")
{
    const hosts_toml toml = hosts_toml::parse(R"(
ca = "server.pem"
[host."https://m.test"]
ca = "m.pem"
client = "c.pem"
dial_timeout = "2s"
header = {x-key = "value"}
)",
                                              "/certs/hosts.toml");
    const auto hosts = hosts_for(reference::parse("x.test/a"), nullptr, &toml);
    REQUIRE(hosts.size() == 2);
    CHECK(hosts[0].certificates.authorities == std::vector<std::string>{"/certs/m.pem"});
    CHECK(hosts[0].certificates.clients == std::vector<client_certificate>{{"/certs/c.pem", ""}});
    CHECK(hosts[0].dial_timeout == std::chrono::seconds(2));
    REQUIRE(hosts[0].headers.size() == 1);
    CHECK(hosts[0].headers[0].first == "x-key");
    CHECK(hosts[0].headers[0].second.reveal() == "value");
    CHECK(hosts[1].certificates.authorities == std::vector<std::string>{"/certs/server.pem"});
    CHECK(hosts[1].headers.empty());
}

TEST_CASE("registry hosts: hosts.toml wins over registries.conf")
{
    const registries_conf conf = registries_conf::parse("[[registry]]\nprefix=\"x.test\"\nlocation=\"conf.test\"", "registries.conf");
    const hosts_toml toml = hosts_toml::parse("server = \"https://toml.test\"", "hosts.toml");
    CHECK(lines(hosts_for(reference::parse("x.test/a"), &conf, &toml)) == "https://toml.test/v2/a/tags/list?ns=x.test toml.test\n");
}

TEST_CASE("registry hosts: the origin can be excluded")
{
    // By the server being a mirror, which is then asked once.
    CHECK(by_toml("x.test/a", "server = \"https://m.test\"\n[host.\"https://m.test\"]") ==
          "https://m.test/v2/a/tags/list?ns=x.test m.test\n");
    // It is asked again if it may do more as a server.
    CHECK(by_toml("x.test/a", "server = \"https://m.test\"\n[host.\"https://m.test\"]\ncapabilities = [\"pull\"]") ==
          "https://m.test/v2/a/tags/list?ns=x.test no-resolve m.test\n"
          "https://m.test/v2/a/tags/list?ns=x.test m.test\n");
    // By the option.
    const host_options mirrors_only = host_options().origin(false);
    CHECK(by_toml("x.test/a", "[host.\"https://m.test\"]", mirrors_only) == "https://m.test/v2/a/tags/list?ns=x.test m.test\n");
    CHECK(by_conf("x.test/a", "[[registry]]\nlocation=\"x.test\"\n[[registry.mirror]]\nlocation=\"m.test\"", mirrors_only) ==
          "https://m.test/v2/a/tags/list m.test\n");
    try {
        (void)hosts_for(reference::parse("x.test/a"), nullptr, nullptr, mirrors_only);
        FAIL("accepted");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::registry_blocked);
        CHECK(failure.detail() == "the settings leave no host to ask for it");
    }
}

} // namespace
