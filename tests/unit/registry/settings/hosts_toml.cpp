#include <overmount/registry/settings/hosts_toml.hpp>

#include "support/catch.hpp"

#include <string>
#include <utility>
#include <vector>

namespace {

using overmount::errc;
using namespace overmount::registry;

hosts_toml parse(const std::string& text)
{
    return hosts_toml::parse(text, "/certs/h/hosts.toml");
}

std::string refusal(const std::string& text)
{
    try {
        (void)parse(text);
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::invalid_settings);
        CHECK(failure.subject() == "/certs/h/hosts.toml");
        CHECK(std::string(failure.what()).find("SECRET") == std::string::npos);
        return failure.detail();
    }
    return "accepted";
}

TEST_CASE("hosts.toml: every key of a host is read")
{
    const hosts_toml file = parse(R"(
server = "https://registry-1.docker.io"
ca = "server.pem"
unknown = 1
[host."http://mirror.test:5000"]
capabilities = ["pull"]
ca = ["a.pem", "/abs/b.pem"]
client = [["c.cert", "c.key"], ["d.pem", ""], "/e.pem"]
skip_verify = true
dial_timeout = "1m1.5s"
[host."http://mirror.test:5000".header]
x-one = "SECRET"
x-two = ["a", "b"]
)");
    REQUIRE(file.hosts().size() == 1);
    const hosts_toml_host& host = file.hosts().front();
    CHECK(host.root.string() == "http://mirror.test:5000/v2");
    CHECK(host.pull);
    CHECK_FALSE(host.resolve);
    CHECK_FALSE(host.push);
    CHECK(host.skip_verify);
    CHECK(host.certificates.authorities == std::vector<std::string>{"/certs/h/a.pem", "/abs/b.pem"});
    CHECK(host.certificates.clients == std::vector<client_certificate>{{"/certs/h/c.cert", "/certs/h/c.key"},
                                                                       {"/certs/h/d.pem", ""},
                                                                       {"/e.pem", ""}});
    CHECK(host.dial_timeout == std::chrono::milliseconds(61'500));
    REQUIRE(host.headers.size() == 3);
    CHECK(host.headers[0].first == "x-one");
    CHECK(host.headers[0].second.reveal() == "SECRET");
    CHECK(host.headers[2].first == "x-two");
    CHECK(host.headers[2].second.reveal() == "b");
    CHECK(file.server().root.string() == "https://registry-1.docker.io/v2");
    CHECK(file.server().certificates.authorities == std::vector<std::string>{"/certs/h/server.pem"});
}

TEST_CASE("hosts.toml: the defaults allow everything and verify")
{
    const hosts_toml file = parse("[host.\"a.test\"]\ncapabilities = []");
    const hosts_toml_host& host = file.hosts().at(0);
    CHECK(host.root.string() == "https://a.test/v2");
    CHECK(host.pull);
    CHECK(host.resolve);
    CHECK(host.push);
    CHECK_FALSE(host.skip_verify);
    CHECK(host.headers.empty());
    CHECK_FALSE(host.dial_timeout);
    CHECK(file.server().root == url());
    CHECK(file.server().resolve);
}

TEST_CASE("hosts.toml: hosts are in the order of the file")
{
    const hosts_toml file = parse(R"(
[host."https://z.test"]
[host."https://b.test".header]
x = "y"
[host."https://a.test"]
[host."https://b.test"]
skip_verify = true
)");
    REQUIRE(file.hosts().size() == 3);
    CHECK(file.hosts()[0].root.host() == "z.test");
    CHECK(file.hosts()[1].root.host() == "b.test");
    CHECK(file.hosts()[1].headers.size() == 1);
    CHECK(file.hosts()[1].skip_verify);
    CHECK(file.hosts()[2].root.host() == "a.test");
}

TEST_CASE("hosts.toml: each capability is one of its own")
{
    const std::tuple<std::string, bool, bool, bool> rows[] = {
        {"\"pull\"", true, false, false},
        {"\"resolve\"", false, true, false},
        {"\"push\"", false, false, true},
        {"\"pull\", \"resolve\"", true, true, false},
    };
    for (const auto& [list, pull, resolve, push] : rows) {
        const hosts_toml file = parse("[host.\"a.test\"]\ncapabilities = [" + list + "]");
        INFO(list);
        CHECK(file.hosts().at(0).pull == pull);
        CHECK(file.hosts().at(0).resolve == resolve);
        CHECK(file.hosts().at(0).push == push);
    }
}

TEST_CASE("hosts.toml: the root of the API ends in /v2 unless override_path is set")
{
    const std::tuple<std::string, bool, std::string> rows[] = {
        {"https://a.test", false, "https://a.test/v2"},
        {"https://a.test/", false, "https://a.test/v2"},
        {"https://a.test/v2/", false, "https://a.test/v2"},
        {"https://a.test/v2/cache", false, "https://a.test/v2/cache/v2"},
        {"https://a.test/v2/cache", true, "https://a.test/v2/cache"},
        {"https://a.test/x/", true, "https://a.test/x"},
        {"https://a.test", true, "https://a.test/"},
        {"a.test:5000", false, "https://a.test:5000/v2"},
        {"[::1]:5000", false, "https://[::1]:5000/v2"},
        {"http-cache.test", false, "https://http-cache.test/v2"},
    };
    for (const auto& [where, override_path, root] : rows) {
        INFO(where);
        const std::string settings = override_path ? "\noverride_path = true\n" : "\n";
        CHECK(parse("server = \"" + where + "\"" + settings).server().root.string() == root);
        CHECK(parse("[host.\"" + where + "\"]" + settings).hosts().at(0).root.string() == root);
    }
}

TEST_CASE("hosts.toml: a client certificate is a path, a list of paths, or a list of pairs")
{
    using list = std::vector<client_certificate>;
    CHECK(parse("client = \"a\"").server().certificates.clients == list{{"/certs/h/a", ""}});
    CHECK(parse("client = [\"a\", \"b\"]").server().certificates.clients == list{{"/certs/h/a", ""}, {"/certs/h/b", ""}});
    CHECK(parse("client = [[\"a\", \"/k\"]]").server().certificates.clients == list{{"/certs/h/a", "/k"}});
    CHECK(hosts_toml::parse("client = \"a\"", "hosts.toml").server().certificates.clients == list{{"a", ""}});
}

TEST_CASE("hosts.toml: every form of a string is read")
{
    const std::pair<std::string, std::string> rows[] = {
        {R"("/a b")", "/a b"},
        {R"('/a\b')", "/a\\b"},
        {R"("/\"\\")", "/\"\\"},
        {R"("/\u0041\u00e4\u20ac\U0001f600")", "/A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"\"\"/a\"\"\"", "/a"},
        {"\"\"\"\n/a\"b\"\"c\"\"\"\"", "/a\"b\"\"c\""},
        {"\"\"\"/a\\\n  \n\t b\"\"\"", "/ab"},
        {"\"\"\"\r\n/a\\  \r\n b\"\"\"", "/ab"},
        {"'''\n/a'\\b'''", "/a'\\b"},
        {"'''/a'''''", "/a''"},
    };
    for (const auto& [text, value] : rows) {
        INFO(text);
        CHECK(parse("ca = " + text).server().certificates.authorities == std::vector<std::string>{value});
    }
    for (const std::string escape : {"\\b", "\\t", "\\n", "\\f", "\\r", "\\u0000", "\\u007f"})
        CHECK(refusal("ca = \"" + escape + "\"") == "line 1: control characters are not allowed");
    CHECK(refusal("ca = '''a\nb'''") == "line 1: control characters are not allowed");
}

TEST_CASE("hosts.toml: durations are those of Go")
{
    const std::pair<std::string, int> rows[] = {{"1s", 1000}, {"500ms", 500}, {"2m", 120'000}, {"1h", 3'600'000},
                                                {"1.5s", 1500}, {"1m30s", 90'000}, {"1500us", 1}, {"5ns", 0}};
    for (const auto& [text, milliseconds] : rows) {
        INFO(text);
        CHECK(parse("dial_timeout = \"" + text + "\"").server().dial_timeout == std::chrono::milliseconds(milliseconds));
    }
    for (const std::string text : {"1", "s", "-1s", "1 s", "1d", "1.2.3s", ".s", "1h1ms", "99999999999999999999h", "1s1", "1e3s", "inf"}) {
        INFO(text);
        CHECK(refusal("dial_timeout = \"" + text + "\"") == "line 1: `dial_timeout` must be a duration such as `3s`, at most an hour");
    }
}

TEST_CASE("hosts.toml: what is outside of the format is refused with its line")
{
    const std::string host = "\n[host.\"https://a.test\"]\n";
    const std::string url_rule = "line 1: the host must be a URL with http or https, and without user and query";
    const std::pair<std::string, std::string> rows[] = {
        {"server = 1", "line 1: `server` must be a string"},
        {"server = \"ftp://a.test\"", url_rule},
        {"server = \"https://u:SECRET@a.test\"", url_rule},
        {"server = \"https://a.test?SECRET\"", url_rule},
        {"server = \"https://a.test:0\"", url_rule},
        {"server = \"https://\"", url_rule},
        {"host = 1", "line 1: `host` must be a table"},
        {"[host]\na = 1", "line 2: `host` must be a table of tables: [host.\"https://mirror\"]"},
        {"[host.\"\"]", "line 1: the host has no URL"},
        {"[host.\"a b\"]", url_rule},
        {host + "capabilities = \"pull\"", "line 3: `capabilities` must be a list of strings"},
        {host + "capabilities = [\"delete\"]", "line 3: `capabilities` are `pull`, `resolve` and `push`"},
        {host + "skip_verify = 1", "line 3: `skip_verify` must be true or false"},
        {host + "override_path = \"x\"", "line 3: `override_path` must be true or false"},
        {host + "ca = 1", "line 3: `ca` must be a list of strings"},
        {host + "client = 1", "line 3: `client` must be a list of paths or pairs of paths"},
        {host + "client = [1]", "line 3: `client` must be a path, a list of paths, or a list of pairs of them"},
        {host + "client = [[\"a\"]]", "line 3: `client` must be a path, a list of paths, or a list of pairs of them"},
        {host + "client = [[\"a\", 1]]", "line 3: `client` must be a path, a list of paths, or a list of pairs of them"},
        {host + "dial_timeout = 3", "line 3: `dial_timeout` must be a string"},
        {host + "header = \"x\"", "line 3: `header` must be a table"},
        {host + "header = {x = 1}", "line 3: a header must be a string or a list of strings"},
        {host + "header = {x = [1]}", "line 3: a header must be a string or a list of strings"},
        {host + "header = {\"x y\" = \"SECRET\"}", "line 3: the name of a header is not valid"},
        {host + "header = {\"\" = \"SECRET\"}", "line 3: the name of a header is not valid"},
        {host + "header = {x = \"SECRET\\r\\ny: z\"}", "line 3: control characters are not allowed"},
        {host + "header = {x = \"SECRET}", "line 3: not valid TOML"},
    };
    for (const auto& [text, detail] : rows) {
        INFO(text);
        CHECK(refusal(text) == detail);
    }
    CHECK(refusal(std::string((1 << 20) + 1, '\n')) == "the file is larger than 1 MiB");
}

TEST_CASE("hosts.toml: the directories of a registry are tried in the order of containerd")
{
    using names = std::vector<std::string>;
    CHECK(hosts_directories("a.test:5000") == names{"a.test_5000_", "a.test:5000", "_default"});
    CHECK(hosts_directories("a.test") == names{"a.test", "_default"});
    CHECK(hosts_directories("[::1]") == names{"[::1]", "_default"});
    CHECK(hosts_directories("[::1]:80") == names{"[::1]_80_", "[::1]:80", "_default"});
}

} // namespace
