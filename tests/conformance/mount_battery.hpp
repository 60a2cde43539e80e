// What every mount policy has to do (mount/mount_policy.hpp), run on each of OVERMOUNT_MOUNTS: a list of
// types, defined before this is included.
#ifndef OVERMOUNT_TESTS_CONFORMANCE_MOUNT_BATTERY_HPP
#define OVERMOUNT_TESTS_CONFORMANCE_MOUNT_BATTERY_HPP

#include <overmount/mount/mount_policy.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

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
        const auto failed = failure([&] { Mount::mount(probe.spec(), probe.target()); });
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
    TestType::mount(place.spec(), place.target());
    CHECK(place.read(place.target() + "/file") == "above");
    CHECK(place.read(place.target() + "/other") == "below");
    TestType::unmount(place.target(), false);
    CHECK(place.mounts() == 0);
    CHECK(std::filesystem::is_empty(place.target()));
}

TEMPLATE_TEST_CASE("a mount that fails leaves none behind", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    CHECK(place.failure([&] { TestType::mount(place.spec("none"), place.target()); }));
    CHECK(place.failure([&] { TestType::mount(place.spec(), place.at("none")); }));
    CHECK(place.failure([&] { (void)TestType::create(place.spec("none")); }));
    CHECK(place.mounts() == 0);
}

TEMPLATE_TEST_CASE("a mount in use stays, or is taken out of sight at once", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    TestType::mount(place.spec(), place.target());
    std::ifstream used(place.target() + "/file");
    CHECK(place.failure([&] { TestType::unmount(place.target(), false); }) == condition::conflict);
    CHECK(place.mounts() == 1);
    TestType::unmount(place.target(), true);
    CHECK(place.mounts() == 0);
    std::string text;
    CHECK(used >> text);
    CHECK(text == "above");
}

TEMPLATE_TEST_CASE("of two mounts at one place the topmost is unmounted", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    TestType::mount(place.spec(), place.target());
    const mount_spec other =
        mount_spec().add_lower(lower(place.at("lower one"))).add_lower(lower(place.at("upper one")));
    TestType::mount(other, place.target());
    CHECK(place.read(place.target() + "/file") == "below");
    TestType::unmount(place.target(), false);
    CHECK(place.read(place.target() + "/file") == "above");
    TestType::unmount(place.target(), false);
    CHECK(place.mounts() == 0);
}

TEMPLATE_TEST_CASE("to unmount where nothing is mounted is an error of its own", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    for (const bool detach : {false, true}) {
        CHECK(place.failure([&] { TestType::unmount(place.target(), detach); }) == errc::mount_not_found);
        CHECK(place.failure([&] { TestType::unmount(place.at("none"), detach); }) == errc::mount_not_found);
    }
}

TEMPLATE_TEST_CASE("a created mount is read by its descriptor and shows nowhere", "[mount]", OVERMOUNT_MOUNTS)
{
    OVERMOUNT_NEEDS_MOUNTS(TestType);
    const mount_fixture<TestType> place;
    detail::unique_fd made;
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
