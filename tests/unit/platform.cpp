#include <overmount/platform.hpp>

#include "support/catch.hpp"

#include <string>

namespace {

using overmount::platform;

TEST_CASE("a platform reads back from its text")
{
    for (const std::string text : {"linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64"})
        CHECK(platform::parse(text).string() == text);
    const platform value = platform::parse("linux/arm/v6");
    CHECK(value.os() == "linux");
    CHECK(value.architecture() == "arm");
    CHECK(value.variant() == "v6");
    CHECK(value == platform("linux", "arm", "v6"));
}

TEST_CASE("this machine runs what is made for it")
{
    const platform host = platform::host();
    CHECK(host.os() == "linux");
    CHECK_FALSE(host.architecture().empty());
    CHECK(host.fit(host) > 0);
#if defined(__x86_64__)
    CHECK(host == platform("linux", "amd64"));
#elif defined(__aarch64__)
    CHECK(host == platform("linux", "arm64", "v8"));
#endif
}

TEST_CASE("another system or architecture does not fit")
{
    const platform here("linux", "amd64");
    CHECK(here.fit(here) > 0);
    CHECK(here.fit({"windows", "amd64"}) == 0);
    CHECK(here.fit({"linux", "s390x"}) == 0);
    CHECK(here.fit({"unknown", "unknown"}) == 0);
    CHECK(here.fit({"", ""}) == 0);
}

TEST_CASE("older variants fit, the newest best, and newer ones do not")
{
    const platform here("linux", "arm", "v7");
    CHECK(here.fit({"linux", "arm", "v7"}) > here.fit({"linux", "arm", "v6"}));
    CHECK(here.fit({"linux", "arm", "v6"}) > here.fit({"linux", "arm", "v5"}));
    CHECK(here.fit({"linux", "arm", "v5"}) > 0);
    CHECK(here.fit({"linux", "arm", "v8"}) == 0);
    CHECK(platform("linux", "amd64").fit({"linux", "amd64", "v3"}) == 0);
    CHECK(platform("linux", "amd64", "v3").fit({"linux", "amd64"}) > 0);
}

TEST_CASE("a missing variant is what the architecture is without one")
{
    CHECK(platform("linux", "arm64").fit({"linux", "arm64", "v8"}) > 0);
    CHECK(platform("linux", "arm64", "v8").fit({"linux", "arm64"}) > 0);
    CHECK(platform("linux", "arm", "v6").fit({"linux", "arm"}) == 0);
    CHECK(platform("linux", "amd64").fit({"linux", "amd64", "v1"}) > 0);
}

} // namespace
