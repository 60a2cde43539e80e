#include <overmount/core/platform.hpp>

#include "support/catch.hpp"

#include <string>
#include <vector>

namespace {

using overmount::platform;

TEST_CASE("a platform parses its own text")
{
    for (const std::string text : {"linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64"})
        CHECK(platform::parse(text).string() == text);
    const platform value = platform::parse("linux/arm/v6");
    CHECK(value.os() == "linux");
    CHECK(value.architecture() == "arm");
    CHECK(value.variant() == "v6");
    CHECK(value == platform("linux", "arm", "v6"));
}

TEST_CASE("the host runs images for its own platform")
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

TEST_CASE("another operating system or architecture does not fit")
{
    const platform here("linux", "amd64");
    CHECK(here.fit(here) > 0);
    CHECK(here.fit({"windows", "amd64"}) == 0);
    CHECK(here.fit({"linux", "s390x"}) == 0);
    CHECK(here.fit({"unknown", "unknown"}) == 0);
    CHECK(here.fit({"", ""}) == 0);
}

TEST_CASE("older variants fit, newer ones of them better, and later variants do not")
{
    const platform here("linux", "arm", "v7");
    CHECK(here.fit({"linux", "arm", "v7"}) > here.fit({"linux", "arm", "v6"}));
    CHECK(here.fit({"linux", "arm", "v6"}) > here.fit({"linux", "arm", "v5"}));
    CHECK(here.fit({"linux", "arm", "v5"}) > 0);
    CHECK(here.fit({"linux", "arm", "v8"}) == 0);
    CHECK(platform("linux", "amd64").fit({"linux", "amd64", "v3"}) == 0);
    CHECK(platform("linux", "amd64", "v3").fit({"linux", "amd64"}) > 0);
}

TEST_CASE("a missing variant means the default variant of the architecture")
{
    CHECK(platform("linux", "arm64").fit({"linux", "arm64", "v8"}) > 0);
    CHECK(platform("linux", "arm64", "v8").fit({"linux", "arm64"}) > 0);
    CHECK(platform("linux", "arm", "v6").fit({"linux", "arm"}) == 0);
    CHECK(platform("linux", "amd64").fit({"linux", "amd64", "v1"}) > 0);
}

// containerd's order of preference, best first. None of `others` fits.
void check_order(const std::string& machine, const std::vector<std::string>& best_first,
                 const std::vector<std::string>& others)
{
    const platform here = platform::parse(machine);
    INFO(machine);
    for (std::size_t i = 0; i < best_first.size(); ++i) {
        INFO(best_first[i]);
        CHECK(here.fit(platform::parse(best_first[i])) > 0);
        if (i > 0)
            CHECK(here.fit(platform::parse(best_first[i - 1])) > here.fit(platform::parse(best_first[i])));
    }
    for (const std::string& other : others) {
        INFO(other);
        CHECK(here.fit(platform::parse(other)) == 0);
    }
}

TEST_CASE("a platform prefers its own variants, newest first, then its 32-bit architecture")
{
    check_order("linux/amd64", {"linux/amd64", "linux/386"},
                {"linux/amd64/v2", "linux/arm64", "windows/386"});
    check_order("linux/amd64/v3", {"linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"},
                {"linux/amd64/v4"});
    check_order("linux/386", {"linux/386"}, {"linux/amd64"});
    check_order("linux/arm64/v8",
                {"linux/arm64/v8", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"},
                {"linux/arm64/v8.1", "linux/arm64/v9", "linux/amd64", "linux/arm/v9"});
    check_order("linux/arm64", {"linux/arm64", "linux/arm/v8", "linux/arm"}, {"linux/386"});
    check_order("linux/arm/v7", {"linux/arm/v7", "linux/arm/v6", "linux/arm/v5"},
                {"linux/arm/v8", "linux/arm64"});
    check_order("linux/arm64/v9.1",
                {"linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64/v8.5", "linux/arm64",
                 "linux/arm/v8"},
                {"linux/arm64/v8.7", "linux/arm64/v9.2"});
}

TEST_CASE("a variant without an order fits only itself")
{
    check_order("linux/amd64/v2", {"linux/amd64/v2"},
                {"linux/amd64/fast", "linux/amd64/v", "linux/amd64/v1.x"});
    check_order("linux/riscv64", {"linux/riscv64"}, {"linux/riscv64/rva22u64"});
    check_order("linux/riscv64/rva22u64", {"linux/riscv64/rva22u64", "linux/riscv64"},
                {"linux/riscv64/rva20u64"});
}

TEST_CASE("other names of an architecture are converted to the OCI name")
{
    CHECK(platform("linux", "x86_64") == platform("linux", "amd64"));
    CHECK(platform::parse("linux/aarch64/v8").string() == "linux/arm64/v8");
    CHECK(platform("linux", "i386").string() == "linux/386");
    CHECK(platform("linux", "armhf").string() == "linux/arm/v7");
    CHECK(platform("linux", "armel").string() == "linux/arm/v6");
    CHECK(platform("linux", "armhf", "v6").string() == "linux/arm/v6");
    CHECK(platform("linux", "arm", "7").fit({"linux", "arm", "v7"}) > 0);
}

} // namespace
