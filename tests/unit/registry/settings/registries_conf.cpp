#include <overmount/registry/settings/registries_conf.hpp>

#include "support/catch.hpp"

#include <string>
#include <utility>
#include <vector>

namespace {

using overmount::errc;
using overmount::reference;
using namespace overmount::registry;

const std::string digest = "@sha256:" + std::string(64, 'a');

registries_conf parse(const std::string& text)
{
    return registries_conf::parse(text, "/etc/registries.conf");
}

// The detail of the refusal.
std::string refusal(const std::string& text)
{
    try {
        (void)parse(text);
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::invalid_settings);
        CHECK(failure.subject() == "/etc/registries.conf");
        return failure.detail();
    }
    return "accepted";
}

std::string entry_of(const registries_conf& conf, const std::string& image)
{
    const registry_entry* found = conf.find(reference::parse(image));
    return found != nullptr ? found->prefix : "none";
}

std::string registry(const std::string& prefix)
{
    return "[[registry]]\nprefix = \"" + prefix + "\"\nlocation = \"x.test\"\n";
}

TEST_CASE("registries.conf: every key of a registry and its mirrors is read")
{
    const registries_conf conf = parse(R"(
unknown = 1
unqualified-search-registries = ["a.test", "b.test:5000"]
short-name-mode = "enforcing"
credential-helpers = ["pass", "containers-auth.json"]
[[registry]]
prefix = "example.com/foo/"
location = "internal.test/bar/"
insecure = true
blocked = true
[[registry.mirror]]
location = "m0.test/foo"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "m1.test:80"
insecure = true
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "m2.test"
pull-from-mirror = "all"
[[registry]]
location = "registry.test"
mirror-by-digest-only = true
[aliases]
"app" = "example.com/ns/app"
"ns/app" = "example.com/other"
)");
    REQUIRE(conf.entries().size() == 2);
    const registry_entry& first = conf.entries().at("example.com/foo");
    CHECK(first.location == "internal.test/bar");
    CHECK(first.insecure);
    CHECK(first.blocked);
    CHECK_FALSE(first.mirror_by_digest_only);
    REQUIRE(first.mirrors.size() == 3);
    CHECK(first.mirrors[0].location == "m0.test/foo");
    CHECK_FALSE(first.mirrors[0].insecure);
    CHECK(first.mirrors[0].pull == pull_from_mirror::digest_only);
    CHECK(first.mirrors[1].location == "m1.test:80");
    CHECK(first.mirrors[1].insecure);
    CHECK(first.mirrors[1].pull == pull_from_mirror::tag_only);
    CHECK(first.mirrors[2].pull == pull_from_mirror::all);
    const registry_entry& second = conf.entries().at("registry.test");
    CHECK(second.location == "registry.test");
    CHECK_FALSE(second.insecure);
    CHECK_FALSE(second.blocked);
    CHECK(second.mirror_by_digest_only);
    CHECK(conf.unqualified_search_registries() == std::vector<std::string>{"a.test", "b.test:5000"});
    CHECK(conf.short_name_mode() == short_name_mode::enforcing);
    CHECK(conf.credential_helpers() == std::vector<std::string>{"pass", "containers-auth.json"});
    CHECK(conf.alias("app") == "example.com/ns/app");
    CHECK(conf.alias("ns/app") == "example.com/other");
    CHECK_FALSE(conf.alias("other"));
}

TEST_CASE("registries.conf: an empty file has the defaults")
{
    const registries_conf conf = parse("");
    CHECK(conf.entries().empty());
    CHECK(conf.unqualified_search_registries().empty());
    CHECK(conf.short_name_mode() == short_name_mode::permissive);
    CHECK(conf.credential_helpers() == std::vector<std::string>{"containers-auth.json"});
    CHECK(parse("short-name-mode = \"\"").short_name_mode() == short_name_mode::permissive);
    CHECK(parse("short-name-mode = \"permissive\"").short_name_mode() == short_name_mode::permissive);
    CHECK(parse("short-name-mode = \"disabled\"").short_name_mode() == short_name_mode::disabled);
}

TEST_CASE("registries.conf: a prefix matches whole components")
{
    const std::tuple<std::string, std::string, bool> rows[] = {
        {"example.com", "example.com/a/b:1", true},
        {"example.com", "example.com.test/a", false},
        {"example.com", "example.com:5000/a", false},
        {"example.com:5000", "example.com:5000/a", true},
        {"example.com/ns", "example.com/ns/a", true},
        {"example.com/ns", "example.com/ns:1", true},
        {"example.com/ns", "example.com/ns" + digest, true},
        {"example.com/ns", "example.com/nsx/a", false},
        {"example.com/ns/a", "example.com/ns", false},
        {"example.com/ns/a:1", "example.com/ns/a:1", true},
        {"example.com/ns/a:1", "example.com/ns/a:1" + digest, true},
        {"example.com/ns/a:1", "example.com/ns/a:11", false},
        {"example.com/ns/a:1", "example.com/ns/a", false},
        {"example.com/a" + digest, "example.com/a" + digest, true},
        {"example.com/a" + digest, "example.com/a:1" + digest, true},
        {"example.com/a" + digest, "example.com/a:1", false},
        {"example.com/a:1" + digest, "example.com/a:1" + digest, true},
        {"docker.io", "busybox", true},
        {"docker.io/library", "busybox", true},
        {"docker.io/busybox", "busybox", false},
        {"*.example.com", "a.example.com/x", true},
        {"*.example.com", "a.b.example.com/x:1", true},
        {"*.example.com", "a.example.com:5000/x", true},
        {"*.example.com", "example.com/x", false},
        {"*.example.com", "aexample.com/x", false},
        {"*.example.com", "a.example.com.test/x", false},
        {"*.example.com", "other.test/a.example.com/x", false},
    };
    for (const auto& [prefix, image, matches] : rows) {
        INFO(prefix << " " << image);
        CHECK((entry_of(parse(registry(prefix)), image) == prefix) == matches);
    }
}

TEST_CASE("registries.conf: the longest prefix wins, in any order of the file")
{
    const std::string some = registry("*.com") + registry("*.example.com") + registry("a.example.com") +
                             registry("a.example.com/ns") + registry("a.example.com/ns/app") + registry("a.example.com/ns/app:1") +
                             registry("a.example.com/ns/app" + digest);
    const registries_conf conf = parse(some);
    CHECK(entry_of(conf, "example.com/x") == "*.com");
    CHECK(entry_of(conf, "b.example.com/x") == "*.example.com");
    CHECK(entry_of(conf, "a.example.com/x") == "a.example.com"); // as long as the wildcard
    CHECK(entry_of(conf, "a.example.com/ns/x") == "a.example.com/ns");
    CHECK(entry_of(conf, "a.example.com/ns/app") == "a.example.com/ns/app");
    CHECK(entry_of(conf, "a.example.com/ns/app/more") == "a.example.com/ns/app");
    CHECK(entry_of(conf, "a.example.com/ns/app:1") == "a.example.com/ns/app:1");
    CHECK(entry_of(conf, "a.example.com/ns/app:1" + digest) == "a.example.com/ns/app" + digest);
    CHECK(entry_of(conf, "other.test/x") == "none");
}

TEST_CASE("registries.conf: of several entries with one prefix the first counts, unless they contradict each other")
{
    const std::string first = "[[registry]]\nprefix=\"a.test\"\nlocation=\"b.test\"\n";
    const registries_conf conf = parse(first + "[[registry]]\nprefix=\"a.test\"\nlocation=\"c.test\"\n");
    CHECK(conf.entries().at("a.test").location == "b.test");
    CHECK(refusal(first + "[[registry]]\nprefix=\"d.test\"\nlocation=\"b.test\"\nblocked=true") ==
          "line 4: `insecure` or `blocked` contradicts an earlier registry with the same location");
    CHECK(refusal(first + "[[registry]]\nprefix=\"d.test\"\nlocation=\"b.test\"\ninsecure=true").starts_with("line 4: "));
}

TEST_CASE("registries.conf: a location replaces the prefix")
{
    const std::tuple<std::string, std::string, std::string, std::string> rows[] = {
        {"example.com", "m.test", "example.com/ns/app:1", "m.test ns/app"},
        {"example.com", "m.test/cache", "example.com/ns/app", "m.test cache/ns/app"},
        {"example.com/ns", "m.test:5000/a/b", "example.com/ns/app", "m.test:5000 a/b/app"},
        {"example.com/ns", "m.test", "example.com/ns/app", "m.test app"},
        {"example.com/app", "m.test/other", "example.com/app", "m.test other"},
        {"example.com/app:1", "m.test/other:1", "example.com/app:1", "m.test other"},
        {"example.com/app:1", "m.test/other", "example.com/app:1", "m.test other"},
        {"*.example.com", "m.test", "a.example.com/app", "m.test app"},
        {"*.example.com", "m.test/x", "a.example.com:5000/app", "m.test x/app"},
        {"*.example.com", "", "a.example.com/app", "a.example.com app"},
        {"example.com", "docker.io", "example.com/app", "docker.io library/app"},
        {"example.com", "index.docker.io", "example.com/ns/app", "docker.io ns/app"},
        {"docker.io/library", "m.test/hub", "busybox", "m.test hub/busybox"},
        {"example.com", "localhost", "example.com/app", "localhost app"},
    };
    for (const auto& [prefix, location, image, expected] : rows) {
        INFO(prefix << " " << location);
        const registries_conf conf = parse("[[registry]]\nprefix=\"" + prefix + "\"\nlocation=\"" + location + "\"");
        const reference name = reference::parse(image);
        const registry_entry* entry = conf.find(name);
        REQUIRE(entry != nullptr);
        const auto moved = relocate(name, *entry, entry->location);
        CHECK(moved.first + " " + moved.second == expected);
    }
    // A whole repository at a host without a path has no name there.
    const registries_conf conf = parse("[[registry]]\nprefix=\"example.com/app\"\nlocation=\"m.test\"");
    const reference name = reference::parse("example.com/app:1");
    CHECK_THROWS_AS(relocate(name, *conf.find(name), "m.test"), overmount::error);
    CHECK_THROWS_AS(relocate(name, *conf.find(name), "m.test/" + std::string(300, 'a')), overmount::error);
}

TEST_CASE("registries.conf: what is outside of the format is refused with its line")
{
    const std::pair<std::string, std::string> rows[] = {
        {"registry = 1", "line 1: `registry` must be a list of tables"},
        {"registry = [1]", "line 1: `registry` must be a list of tables"},
        {"\n[[registry]]\ninsecure = \"yes\"\nlocation = \"a.test\"", "line 3: `insecure` must be true or false"},
        {"[[registry]]\nblocked = 1\nlocation = \"a.test\"", "line 2: `blocked` must be true or false"},
        {"[[registry]]\nmirror-by-digest-only = 1\nlocation = \"a.test\"", "line 2: `mirror-by-digest-only` must be true or false"},
        {"[[registry]]\nlocation = 1", "line 2: `location` must be a string"},
        {"[[registry]]\nprefix = []", "line 2: `prefix` must be a string"},
        {"[[registry]]\n", "line 1: a registry needs a `prefix` or a `location`"},
        {"[[registry]]\nprefix = \"a.test\"", "line 2: the registry has no `location`"},
        {"[[registry]]\nlocation = \"https://a.test\"", "line 2: `location` must be HOST[:PORT][/PATH], without a scheme"},
        {"[[registry]]\nlocation = \"mirror/a\"", "line 2: `location` must be HOST[:PORT][/PATH], without a scheme"},
        {"[[registry]]\nlocation = \"user@a.test\"", "line 2: `location` must be HOST[:PORT][/PATH], without a scheme"},
        {"[[registry]]\nlocation = \"a.test/../b\"", "line 2: `location` must be HOST[:PORT][/PATH], without a scheme"},
        {"[[registry]]\nlocation = \"a.test\\n\"", "line 2: control characters are not allowed"},
        {"[[registry]]\nprefix = \"https://a.test\"\nlocation = \"a.test\"", "line 2: `prefix` must not have a scheme"},
        {"[[registry]]\nprefix = \"a.*.test\"\nlocation = \"a.test\"", "line 2: a `*` is allowed only in the form `*.example.com`"},
        {"[[registry]]\nprefix = \"*.a.test/b\"", "line 2: a `*` is allowed only in the form `*.example.com`"},
        {"[[registry]]\nprefix = \"*.a.test:80\"", "line 2: a `*` is allowed only in the form `*.example.com`"},
        {"[[registry]]\nprefix = \"*.*.test\"", "line 2: a `*` is allowed only in the form `*.example.com`"},
        {"[[registry]]\nprefix = \"a.test/b\"\nlocation = \"c.test/b:1\"",
         "line 3: the tag or digest of a `location` must be that of the `prefix`"},
        {"[[registry]]\nlocation = \"a.test\"\npull-from-mirror = \"all\"", "line 3: `pull-from-mirror` is for a mirror"},
        {"[[registry]]\nlocation = \"a.test\"\n[registry.mirror]\nlocation = \"b.test\"", "line 3: `mirror` must be a list of tables"},
        {"[[registry]]\nlocation = \"a.test\"\n[[registry.mirror]]\ninsecure = true", "line 3: the mirror has no `location`"},
        {"[[registry]]\nlocation = \"a.test\"\n[[registry.mirror]]\nlocation = \"b.test\"\npull-from-mirror = \"never\"",
         "line 5: `pull-from-mirror` must be `all`, `digest-only` or `tag-only`"},
        {"[[registry]]\nlocation = \"a.test\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"b.test\"\n"
         "pull-from-mirror = \"all\"",
         "line 4: `pull-from-mirror` and `mirror-by-digest-only` exclude each other"},
        {"unqualified-search-registries = \"a.test\"", "line 1: `unqualified-search-registries` must be a list of strings"},
        {"unqualified-search-registries = [1]", "line 1: `unqualified-search-registries` must be a list of strings"},
        {"unqualified-search-registries = [\"a.test/b\"]", "line 1: `unqualified-search-registries` must be a list of HOST[:PORT]"},
        {"short-name-mode = \"ask\"", "line 1: `short-name-mode` must be `permissive`, `enforcing` or `disabled`"},
        {"credential-helpers = \"pass\"", "line 1: `credential-helpers` must be a list of strings"},
        {"aliases = 1", "line 1: `aliases` must be a table"},
        {"[aliases]\na = 1", "line 2: an alias must be a string"},
        {"[aliases]\na = \"b\"", "line 2: an alias maps a short name to one with a domain; neither has a tag or digest"},
        {"[aliases]\na = \"b.test/a:1\"", "line 2: an alias maps a short name to one with a domain; neither has a tag or digest"},
        {"[aliases]\n\"b.test/a\" = \"b.test/a\"",
         "line 2: an alias maps a short name to one with a domain; neither has a tag or digest"},
        {"a = ", "line 1: not valid TOML"},
        {"\na = \"x\"\na = \"y\"", "line 3: not valid TOML"},
        {"[registries.search]\nregistries = [\"a.test\"]",
         "line 1: version 1 of registries.conf is not supported: write [[registry]] tables, and `unqualified-search-registries` for "
         "[registries.search]"},
    };
    for (const auto& [text, detail] : rows) {
        INFO(text);
        CHECK(refusal(text) == detail);
    }
}

TEST_CASE("registries.conf: text that is not TOML is refused")
{
    for (const std::string text :
         {"a", "a =", "= 1", "a = 1 b = 2", "a = ,", "a = x", "a = \xd1\x9e", "\xd1\x9e = 1", "a. = 1", ".a = 1", "a..b = 1", "a b = 1",
          "'''a''' = 1", "\"\"\"a\"\"\" = 1", "[a", "[a]]", "[[a]", "[]", "[&", "[[[a]]]", "[ [a]]", "[a] b = 1", "a = [1",
          "a = [1 2]", "a = [,]", "a = [2,}", "a = {b = 1", "a = {b = 1,}", "a = {b = 1 c = 2}", "a = {\nb = 1}", "a = ]", "a = 'x",
          "a = \"x", "a = 'x\n'", "a = '''x", "a = \"\"\"x\"\"", "a = \"\\x\"", "a = \"\\u12\"", "a = \"\\ud800\"",
          "a = \"\\U00110000\"", "a = \"\\u+123\"", "a = \"\\", "a = \"x\\\n\"", "a = 'x\x01'", "# \x01", "a = 1\r", "a = -\x01", "\v",
          "\xc2\xa0",
          // Made twice.
          "a = 1\na = 2", "a = {b = 1, b = 2}", "[a]\n[a]", "a = 1\n[a]", "a = {}\n[a]", "a = {}\n[a.b]", "a = {}\na.b = 1",
          "a = 1\na.b = 1", "a = []\n[[a]]", "[a]\n[[a]]", "[[a]]\n[a]", "a = [{}]\n[a.b]", "[[a.b]]\n[a]\nb = 1"}) {
        INFO(text);
        CHECK(refusal(text).ends_with(": not valid TOML"));
    }
    CHECK(refusal("\n\n[&") == "line 3: not valid TOML");
    CHECK(refusal("a = '''\n\n'''\n\nb") == "line 5: not valid TOML");
}

TEST_CASE("registries.conf: all of TOML is read over")
{
    for (const std::string text :
         {"", "\n", "# x", "\xef\xbb\xbf[a]", "\ta = 1 # x\r\n", "[a]\r\n[b]", "a = [1, [2.5, 'x'], {b = true},]",
          "a = [ # x\n1,\n# y\n2\n]", "a = {}", "a = { b.c = 1, 'd' = {} }", "a.b = 1\na.c = 2", "a.'b.c' = 1", "1 = 1", "- = 1",
          "a-b_c = 1", "\"\" = 1", "[a.b]\n[a]", "[a]\n[a.b]", "[ a . 'b' ]", "[[a]]\n[[a]]\n[a.b]\n[[a]]\n[a.b]",
          "[[ a ]]\n[[a.b]]\n[[a.b]]", "a = +1_000", "a = 0xff", "a = -1.5e+3", "a = inf", "a = nan", "a = -nan",
          "a = 1979-05-27T07:32:00-08:00", "a = 1979-05-27 07:32:00Z", "a = 1979-05-27 # x", "a = 07:32:00", "a = '[&' # [&",
          "a = \"\\\"[&\"", "a = \"\"\"\n[&\n\\\"\"\"\"\"\nb = 1", "a = '''\n[&\n'''", "a = ''''x'''''\nb = 1", "a = '' # [&",
          "a = '\xd1\x9e' # \xd1\x9e"}) {
        INFO(text);
        CHECK(refusal(text) == "accepted");
    }
}

TEST_CASE("registries.conf: depth is bounded")
{
    const auto many = [](int count, const std::string& text) {
        std::string out;
        for (int i = 0; i < count; ++i)
            out += text;
        return out;
    };
    CHECK(refusal(many(15, "a.") + "a = 1") == "accepted");
    CHECK(refusal("a = " + many(16, "[") + many(16, "]")) == "accepted");
    CHECK(refusal("a = " + many(16, "{a = ") + "1" + many(16, "}")) == "accepted");
    for (const int count : {18, 100'000}) {
        CHECK(refusal(many(count, "a.") + "a = 1") == "line 1: nested too deeply");
        CHECK(refusal("[" + many(count, "'a'.") + "a]") == "line 1: nested too deeply");
        CHECK(refusal("a = " + many(count, "[")) == "line 1: nested too deeply");
        CHECK(refusal("a = " + many(count, "{a = ")) == "line 1: nested too deeply");
    }
}

TEST_CASE("registries.conf: size and number of entries are bounded")
{
    const std::string text = "location = \"a.test\"\n";
    CHECK(refusal("#" + std::string((1 << 20) - 1, 'x')) == "accepted");
    CHECK(refusal("#" + std::string(1 << 20, 'x')) == "the file is larger than 1 MiB");
    const auto mirrors = [](int count) {
        std::string out = "[[registry]]\nlocation=\"a.test\"\nmirror=[";
        for (int i = 0; i < count; ++i)
            out += "{location=\"b.test\"},";
        return out + "]";
    };
    CHECK(refusal(mirrors(9'999)) == "accepted");
    CHECK(refusal(mirrors(10'000)) == "line 1: more than 10000 registries and mirrors");
    CHECK(refusal(mirrors(10'001)) == "line 3: more than 10000 entries");
    std::string aliases = "[aliases]\n";
    for (int i = 0; i < 10'001; ++i)
        aliases += "a" + std::to_string(i) + "=\"b.test/a\"\n";
    CHECK(refusal(aliases) == "line 10002: more than 10000 entries");
}

TEST_CASE("registries.conf: a drop-in overrides what it sets")
{
    registries_conf conf = parse(R"(
unqualified-search-registries = ["a.test"]
short-name-mode = "enforcing"
credential-helpers = ["pass"]
[[registry]]
location = "a.test"
insecure = true
[[registry]]
location = "b.test"
[aliases]
x = "a.test/x"
y = "a.test/y"
)");
    conf.merge(parse(""));
    CHECK(conf.unqualified_search_registries() == std::vector<std::string>{"a.test"});
    CHECK(conf.short_name_mode() == short_name_mode::enforcing);
    CHECK(conf.credential_helpers() == std::vector<std::string>{"pass"});
    conf.merge(parse(R"(
unqualified-search-registries = []
short-name-mode = "disabled"
credential-helpers = ["secretservice"]
[[registry]]
location = "a.test"
blocked = true
[[registry]]
location = "c.test"
[aliases]
x = ""
y = "c.test/y"
)"));
    CHECK(conf.entries().size() == 3);
    CHECK(conf.entries().at("a.test").blocked);
    CHECK_FALSE(conf.entries().at("a.test").insecure); // replaced as a whole
    CHECK(conf.unqualified_search_registries().empty());
    CHECK(conf.short_name_mode() == short_name_mode::disabled);
    CHECK(conf.credential_helpers() == std::vector<std::string>{"secretservice"});
    CHECK_FALSE(conf.alias("x"));
    CHECK(conf.alias("y") == "c.test/y");
    std::string many = "registry=[";
    for (int i = 0; i < 9'998; ++i)
        many += "{location=\"" + std::to_string(i) + ".test\"},";
    CHECK_THROWS_AS(conf.merge(parse(many + "]")), overmount::error);
}

TEST_CASE("registries.conf: the user's file replaces the system's, and a named one replaces both")
{
    const auto variables = [](std::vector<std::pair<std::string, std::string>> values) -> environment {
        return [values](const std::string& name) -> std::optional<std::string> {
            for (const auto& [key, value] : values)
                if (key == name)
                    return value;
            return std::nullopt;
        };
    };
    const auto places = [](const environment& from) {
        std::string out;
        for (const registries_conf_place& place : registries_conf_paths(from)) {
            out += place.required ? "!" + place.file : place.file;
            for (const std::string& directory : place.drop_in_directories)
                out += " " + directory;
            out += "\n";
        }
        return out;
    };
    const std::string system = "/etc/containers/registries.conf";
    CHECK(places(nullptr) == system + " " + system + ".d\n");
    const std::string user = "/home/u/.config/containers/registries.conf";
    CHECK(places(variables({{"HOME", "/home/u"}, {"XDG_CONFIG_HOME", ""}})) ==
          user + " " + user + ".d\n" + system + " " + system + ".d " + user + ".d\n");
    CHECK(places(variables({{"HOME", "/home/u"}, {"XDG_CONFIG_HOME", "/x"}}))
              .starts_with("/x/containers/registries.conf /x/containers/registries.conf.d\n"));
    CHECK(places(variables({{"HOME", "/home/u"}, {"CONTAINERS_REGISTRIES_CONF", "/mine"}})) ==
          "!/mine " + system + ".d " + user + ".d\n");
}

} // namespace
