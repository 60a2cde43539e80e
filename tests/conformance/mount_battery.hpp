// What every mount policy has to do (mount/mount_policy.hpp), run on each of OVERMOUNT_MOUNTS: a list of
// types, defined before this is included.
#ifndef OVERMOUNT_TESTS_CONFORMANCE_MOUNT_BATTERY_HPP
#define OVERMOUNT_TESTS_CONFORMANCE_MOUNT_BATTERY_HPP

#include <overmount/mount/mount_policy.hpp>

#include "support/catch.hpp"
#include "support/device_numbers.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>

namespace overmount::test {

// Two directories to stack and one to mount at.
template <mount_policy Mount>
class mount_fixture
{
public:
    mount_fixture()
    {
        for (const char* name : {"upper one", "lower one", "target"})
            std::filesystem::create_directory(scratch_ / name);
        std::ofstream(scratch_ / "upper one/file") << "above";
        std::ofstream(scratch_ / "lower one/file") << "below";
        std::ofstream(scratch_ / "lower one/other") << "below";
    }
    [[nodiscard]] std::string at(const char* name) const { return scratch_ / name; }
    [[nodiscard]] std::string target() const { return at("target"); }
    [[nodiscard]] mount_spec spec(const char* lowest = "lower one") const
    {
        return mount_spec().add_lower(lower(at("upper one"))).add_lower(lower(at(lowest)));
    }
    // The same with an upper; its directories are made by the first call.
    [[nodiscard]] mount_spec writable() const
    {
        for (const char* name : {"changes", "work", "probe"})
            std::filesystem::create_directory(scratch_ / name);
        return spec().upper(mount_directory(at("changes"))).work(mount_directory(at("work"))).source("overmount-battery");
    }
    // What `alive` is given for it.
    [[nodiscard]] mount_spec probe() const
    {
        return mount_spec().upper(mount_directory(at("changes"))).work(mount_directory(at("probe")));
    }
    // Makes the scratch directory a private mount: below a shared one nothing can be moved.
    [[nodiscard]] bool is_private() const
    {
        const char* place = scratch_.path().c_str();
        return run_quietly({"mount", "--bind", place, place}) == 0 && run_quietly({"mount", "--make-private", place}) == 0;
    }
    [[nodiscard]] std::size_t mounts() const { return mounts_below(scratch_.path()).size(); }
    [[nodiscard]] static std::string read(const std::string& path)
    {
        std::ifstream in(path);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    // What the function fails with; nothing when it does not.
    template <class Function>
    [[nodiscard]] static boost::system::error_code failure(Function function)
    {
        try {
            function();
        } catch (const error& failed) {
            return failed.code();
        }
        return {};
    }

    // Why this process cannot mount; empty where it can.
    [[nodiscard]] static std::string refusal()
    {
        const mount_fixture probe;
        const auto failed = failure([&] { static_cast<void>(Mount::mount(probe.spec(), probe.target())); });
        const bool refused = failed == condition::permission_denied || failed == condition::unsupported;
        return refused ? failed.message() : std::string();
    }

private:
    scratch_directory scratch_;
};

#define OVERMOUNT_NEEDS_MOUNTS(Mount)                                                                        \
    do {                                                                                                     \
        static const std::string why = overmount::test::mount_fixture<Mount>::refusal();                     \
        if (!why.empty())                                                                                    \
            OVERMOUNT_SKIP(why);                                                                             \
    } while (false)

TEMPLATE_TEST_CASE("a mount shows the stack at its target until it is unmounted", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    const mount_identity mounted = TestType::mount(place.spec(), place.target());
    CHECK(place.read(place.target() + "/file") == "above");
    CHECK(place.read(place.target() + "/other") == "below");
    TestType::unmount(mounted, place.target(), false);
    CHECK(place.mounts() == 0);
    CHECK(std::filesystem::is_empty(place.target()));
}

TEMPLATE_TEST_CASE("a mount that fails leaves none behind", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    CHECK(place.failure([&] { static_cast<void>(TestType::mount(place.spec("none"), place.target())); }));
    CHECK(place.failure([&] { static_cast<void>(TestType::mount(place.spec(), place.at("none"))); }));
    CHECK(place.failure([&] { (void)TestType::create(place.spec("none")); }));
    CHECK(place.mounts() == 0);
}

TEMPLATE_TEST_CASE("what a mount is told to be is what its place tells", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    CHECK_FALSE(TestType::identify(place.target()));
    const mount_identity first = TestType::mount(place.spec().source("overmount-first"), place.target());
    CHECK(first.source == "overmount-first");
    CHECK(first.device != 0);
    CHECK(TestType::identify(place.target()) == first);
    CHECK(TestType::identify(place.target() + "/../target/") == first);
    const mount_identity second = TestType::mount(place.spec(), place.target());
    CHECK(second != first);
    CHECK(TestType::identify(place.target()) == second);
    CHECK_FALSE(TestType::identify(place.at("upper one")));
}

TEMPLATE_TEST_CASE("a mount in use stays, or is taken out of sight at once", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    const mount_identity mounted = TestType::mount(place.spec(), place.target());
    std::ifstream used(place.target() + "/file");
    CHECK(place.failure([&] { TestType::unmount(mounted, place.target(), false); }) == condition::conflict);
    CHECK(place.mounts() == 1);
    TestType::unmount(mounted, place.target(), true);
    CHECK(place.mounts() == 0);
    std::string text;
    CHECK(used >> text);
    CHECK(text == "above");
}

TEMPLATE_TEST_CASE("what lies on top of a mount stays, and is named", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    const mount_identity mounted = TestType::mount(place.spec(), place.target());
    const bool detach = GENERATE(false, true);
    const auto covered = [&](const char* where, const char* named) {
        REQUIRE(run_quietly({"mount", "-t", "tmpfs", "strange", place.at(where).c_str()}) == 0);
        const auto before = place.mounts();
        try {
            TestType::unmount(mounted, place.target(), detach);
            FAIL("it was unmounted");
        } catch (const error& failure) {
            CHECK(failure.code() == errc::mount_covered);
            CHECK_THAT(failure.what(), Catch::Matchers::ContainsSubstring(named));
        }
        CHECK(place.mounts() == before);
        REQUIRE(run_quietly({"umount", place.at(where).c_str()}) == 0);
    };
    SECTION("at its place")
    {
        covered("target", "tmpfs (strange)");
    }
    SECTION("at a directory above")
    {
        covered(".", "parent directory");
    }
    SECTION("another one of the same kind")
    {
        const mount_identity other = TestType::mount(
            mount_spec().add_lower(lower(place.at("lower one"))).add_lower(lower(place.at("upper one"))), place.target());
        CHECK(place.failure([&] { TestType::unmount(mounted, place.target(), detach); }) == errc::mount_covered);
        CHECK(place.read(place.target() + "/file") == "below");
        TestType::unmount(other, place.target(), detach);
        CHECK(place.read(place.target() + "/file") == "above");
    }
    TestType::unmount(mounted, place.target(), detach);
    CHECK(place.mounts() == 0);
}

TEMPLATE_TEST_CASE("a mount that was moved is unmounted where it is now", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    REQUIRE(place.is_private());
    const std::string elsewhere = place.at("else where\\\n");
    std::filesystem::create_directory(elsewhere);
    const mount_identity mounted = TestType::mount(place.spec(), place.target());
    REQUIRE(run_quietly({"mount", "--move", place.target().c_str(), elsewhere.c_str()}) == 0);
    // What is mounted at its old place by now is another's.
    const mount_identity other = TestType::mount(place.spec(), place.target());
    TestType::unmount(mounted, place.target(), false);
    CHECK(std::filesystem::is_empty(elsewhere));
    CHECK(TestType::identify(place.target()) == other);
}

TEMPLATE_TEST_CASE("of a mount and what is bound of it, the mount is unmounted", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    std::filesystem::create_directory(place.at("bound"));
    const mount_identity mounted = TestType::mount(place.spec(), place.target());
    REQUIRE(run_quietly({"mount", "--bind", place.target().c_str(), place.at("bound").c_str()}) == 0);
    TestType::unmount(mounted, place.target(), false);
    CHECK(std::filesystem::is_empty(place.target()));
    CHECK(place.read(place.at("bound/file")) == "above");
    CHECK(TestType::alive(mounted, mount_spec()));
    CHECK(place.failure([&] { TestType::unmount(mounted, place.at("bound"), true); }) == errc::mount_not_found);
    CHECK(place.read(place.at("bound/file")) == "above");
}

TEMPLATE_TEST_CASE("to unmount what is not there is an error of its own", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    const mount_identity gone = TestType::mount(place.spec(), place.target());
    TestType::unmount(gone, place.target(), false);
    const mount_identity other = TestType::mount(place.spec().source("overmount-other"), place.target());
    mount_identity earlier = other;
    earlier.boot = "another";
    for (const bool detach : {false, true})
        for (const mount_identity& wanted : {gone, earlier, mount_identity()})
            CHECK(place.failure([&] { TestType::unmount(wanted, place.target(), detach); }) == errc::mount_not_found);
    CHECK(TestType::identify(place.target()) == other);
}

TEMPLATE_TEST_CASE("a mount is alive as long as anybody holds it", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    low_device_numbers low;
    const bool is_writable = GENERATE(false, true);
    mount_identity mounted = TestType::mount(is_writable ? place.writable() : place.spec(), place.target());
    low.let_go();
    const mount_spec probe = is_writable ? place.probe() : mount_spec();
    CHECK(TestType::alive(mounted, probe));
    {
        const std::ifstream inside(place.target() + "/file");
        TestType::unmount(mounted, place.target(), true);
        CHECK(TestType::alive(mounted, probe));
        mount_identity earlier = mounted;
        earlier.boot = "another";
        CHECK_FALSE(TestType::alive(earlier, probe));
        // Where its number is not known, the upper tells.
        mounted.device = is_writable ? 0 : mounted.device;
        CHECK(TestType::alive(mounted, probe));
    }
    CHECK_FALSE(TestType::alive(mounted, probe));
}

TEMPLATE_TEST_CASE("a mount whose device number is another's by now counts as alive", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    low_device_numbers low;
    const mount_identity mounted = TestType::mount(place.writable(), place.target());
    TestType::unmount(mounted, place.target(), false);
    auto others = take_device_number(mounted.device);
    if (others.empty())
        OVERMOUNT_SKIP("the number is used by somebody else");
    CHECK(TestType::alive(mounted, place.probe()));
    low.let_go();
    others.clear();
    CHECK_FALSE(TestType::alive(mounted, place.probe()));
}

TEMPLATE_TEST_CASE("a mount whose upper another overlay uses is alive", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    low_device_numbers low;
    const mount_identity first = TestType::mount(place.writable(), place.target());
    low.let_go();
    TestType::unmount(first, place.target(), false);
    const mount_identity second = TestType::mount(place.writable(), place.target());
    CHECK(TestType::alive(first, place.probe()));
    TestType::unmount(second, place.target(), false);
    CHECK_FALSE(TestType::alive(first, place.probe()));
}

TEMPLATE_TEST_CASE("to ask whether a mount is alive changes nothing of its upper", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    TestType::unmount(TestType::mount(place.writable(), place.target()), place.target(), false);
    const auto seen = [&] {
        struct stat status{};
        REQUIRE(::stat(place.at("changes").c_str(), &status) == 0);
        std::string names(4096, '\0');
        const auto size = ::listxattr(place.at("changes").c_str(), names.data(), names.size());
        names.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
        return std::tuple(status.st_ctim.tv_sec, status.st_ctim.tv_nsec, names, std::filesystem::is_empty(place.at("changes")));
    };
    const auto before = seen();
    mount_identity unknown;
    unknown.source = "overmount-nowhere";
    CHECK_FALSE(TestType::alive(unknown, place.probe()));
    CHECK(seen() == before);
}

TEMPLATE_TEST_CASE("where nothing can be asked about the upper, the mount counts as alive", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    static_cast<void>(place.writable());
    mount_identity unknown;
    unknown.source = "overmount-nowhere";
    CHECK(TestType::alive(unknown, place.probe().work(mount_directory(place.at("none")))));
    CHECK(TestType::alive(unknown, place.probe().upper(mount_directory(place.at("none")))));
}

TEMPLATE_TEST_CASE("a created mount is read by its descriptor and shows nowhere", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    unique_fd made;
    const auto failed = place.failure([&] { made = TestType::create(place.spec()); });
    if (failed == condition::unsupported)
        OVERMOUNT_SKIP(failed.message());
    REQUIRE_FALSE(failed);
    struct stat status;
    CHECK(::fstatat(made.get(), "other", &status, 0) == 0);
    CHECK(place.mounts() == 0);
}

} // namespace overmount::test

#endif
