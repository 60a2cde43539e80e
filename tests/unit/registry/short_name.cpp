#include <overmount/registry/short_name.hpp>

#include "support/catch.hpp"

#include <string>
#include <vector>

namespace {

using overmount::errc;
using overmount::registry::registries_conf;

std::vector<std::string> meant(const std::string& name, const std::string& conf)
{
    std::vector<std::string> out;
    for (const auto& one : overmount::registry::references_for(name, registries_conf::parse(conf, "conf")))
        out.push_back(one.string());
    return out;
}

TEST_CASE("a short name is looked for where registries.conf says")
{
    using names = std::vector<std::string>;
    const std::string hex(64, 'a');
    const std::string two = "unqualified-search-registries = [\"docker.io\", \"a.test:5000\"]\nshort-name-mode = \"permissive\"\n";
    const std::string alias = two + "[aliases]\n\"app\" = \"b.test/own/app\"\n\"ns/app\" = \"c.test/app\"\n";
    CHECK(meant("app", "") == names{"docker.io/library/app"});
    CHECK(meant("app:1", two) == names{"docker.io/library/app:1", "a.test:5000/app:1"});
    CHECK(meant("ns/app@sha256:" + hex, two) == names{"docker.io/ns/app@sha256:" + hex, "a.test:5000/ns/app@sha256:" + hex});
    CHECK(meant("app", alias) == names{"b.test/own/app"});
    CHECK(meant("app:1", alias) == names{"b.test/own/app:1"});
    CHECK(meant("app:1@sha256:" + hex, alias) == names{"b.test/own/app:1@sha256:" + hex});
    CHECK(meant("ns/app:2", alias) == names{"c.test/app:2"});
    CHECK(meant("other", alias) == names{"docker.io/library/other", "a.test:5000/other"});
    // A name with a domain means itself.
    for (const char* name : {"docker.io/library/app:1", "localhost/app:1", "a.test/app:1", "index.docker.io/app:1"})
        CHECK(meant(name, alias).size() == 1);
    CHECK(meant("localhost/app", alias) == names{"localhost/app"});
}

TEST_CASE("a short name of several registries is refused where they must be chosen from")
{
    const std::string mode = "short-name-mode = \"enforcing\"\n";
    try {
        (void)meant("app", "unqualified-search-registries = [\"a.test\", \"b.test\"]\n" + mode);
        FAIL("accepted");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::invalid_reference);
        CHECK(failure.subject() == "app");
    }
    CHECK(meant("app", "unqualified-search-registries = [\"a.test\"]\n" + mode) == std::vector<std::string>{"a.test/app"});
}

} // namespace
