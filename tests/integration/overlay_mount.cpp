#include <overmount/mount/mountinfo.hpp>
#include <overmount/mount/overlay_mount.hpp>

#include "support/catch.hpp"
#include "support/skip.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

namespace fs = std::filesystem;

using overmount::condition;
using overmount::errc;
using overmount::lower;
using overmount::mount_directory;
using overmount::mount_spec;
using overmount::mountinfo;
using overmount::overlay_mount;
using overmount::unique_fd;

namespace {

// A scratch directory with a mount target; its destructor leaves nothing mounted.
class scratch
{
public:
    scratch()
    {
        std::string name = (fs::canonical(fs::temp_directory_path()) / "overmount-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("mkdtemp");
        base_ = name;
        fs::create_directory(base_ / "target");
    }
    scratch(const scratch&) = delete;
    ~scratch()
    {
        while (mountinfo::read().find_by_target(target()) != nullptr)
            if (::syscall(SYS_umount2, target().c_str(), 2 | 8) != 0) // MNT_DETACH | UMOUNT_NOFOLLOW
                break;
        // Never descend into a mount.
        std::error_code ignored;
        if (mountinfo::read().find_by_target(target()) == nullptr)
            fs::remove_all(base_, ignored);
    }

    [[nodiscard]] std::string target() const { return (base_ / "target").string(); }
    [[nodiscard]] std::string at(const std::string& name) const { return (base_ / name).string(); }

    // Makes a directory with these files; each holds the name of the directory.
    std::string directory(const std::string& name, std::initializer_list<const char*> files = {}) const
    {
        fs::create_directories(base_ / name);
        for (const char* file : files) {
            fs::create_directories((base_ / name / file).parent_path());
            std::ofstream(base_ / name / file) << name;
        }
        return at(name);
    }

private:
    fs::path base_;
};

std::string read(const fs::path& file)
{
    std::ifstream in(file);
    std::string out;
    std::getline(in, out);
    return out;
}

std::set<std::string> names(const fs::path& directory)
{
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(directory))
        out.insert(entry.path().filename().string());
    return out;
}

mount_spec stack(std::initializer_list<std::string> paths)
{
    mount_spec out;
    for (const std::string& path : paths)
        out.add_lower(lower(path));
    return out;
}

unique_fd open_directory(const std::string& path)
{
    return unique_fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

// Why this machine cannot mount at all; empty if it can.
std::string reason_not_to_mount(bool userxattr)
{
    scratch dir;
    try {
        (void)overlay_mount::create(stack({dir.directory("a"), dir.directory("b")}).userxattr(userxattr));
    } catch (const overmount::error& refused) {
        if (refused.code() == condition::unsupported || refused.code() == condition::permission_denied ||
            refused.detail().find("does not support overlayfs") != std::string::npos)
            return refused.what();
        throw;
    }
    return {};
}

// The mount at a path.
void unmount(const std::string& target, bool detach)
{
    overlay_mount::unmount(overlay_mount::identify(target).value(), target, detach);
}

template <class Function>
overmount::error failure_of(Function function)
{
    try {
        function();
    } catch (const overmount::error& failure) {
        return failure;
    }
    return overmount::error(boost::system::error_code());
}

} // namespace

#define NEEDS_MOUNTS() NEEDS_MOUNTS_WITH(false)
#define NEEDS_MOUNTS_WITH(userxattr)                                                                         \
    do {                                                                                                     \
        static const std::string why = reason_not_to_mount(userxattr);                                       \
        if (!why.empty())                                                                                    \
            OVERMOUNT_SKIP(why);                                                                             \
    } while (false)

TEST_CASE("the first of three lowers is topmost")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto spec = stack(
        {dir.directory("a", {"f"}), dir.directory("b", {"f", "g"}), dir.directory("c", {"f", "g", "h"})});
    overlay_mount::mount(spec, dir.target());
    CHECK(read(dir.target() + "/f") == "a");
    CHECK(read(dir.target() + "/g") == "b");
    CHECK(read(dir.target() + "/h") == "c");
    CHECK(names(dir.target()) == std::set<std::string>{"f", "g", "h"});
    unmount(dir.target(), false);
    CHECK(names(dir.target()).empty());
}

TEST_CASE("a whiteout and an opaque directory hide the entries below")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto top = dir.directory("a", {"opaque/new"});
    const auto bottom = dir.directory("b", {"gone", "kept", "opaque/old"});
    REQUIRE(::mknod((top + "/gone").c_str(), S_IFCHR, ::makedev(0, 0)) == 0);
    if (::setxattr((top + "/opaque").c_str(), "trusted.overlay.opaque", "y", 1, 0) != 0)
        OVERMOUNT_SKIP("no trusted xattrs here");
    overlay_mount::mount(stack({top, bottom}), dir.target());
    CHECK(names(dir.target()) == std::set<std::string>{"kept", "opaque"});
    CHECK(names(dir.target() + "/opaque") == std::set<std::string>{"new"});
}

TEST_CASE("userxattr reads the user.overlay mark of opaque directories")
{
    NEEDS_MOUNTS_WITH(true);
    scratch dir;
    const auto top = dir.directory("a", {"opaque/new"});
    const auto bottom = dir.directory("b", {"opaque/old"});
    if (::setxattr((top + "/opaque").c_str(), "user.overlay.opaque", "y", 1, 0) != 0)
        OVERMOUNT_SKIP("no user xattrs here");
    overlay_mount::mount(stack({top, bottom}).userxattr(true), dir.target());
    CHECK(names(dir.target() + "/opaque") == std::set<std::string>{"new"});
}

TEST_CASE("five hundred lower directories can be mounted, and one more is a clear error")
{
    NEEDS_MOUNTS();
    scratch dir;
    mount_spec spec;
    for (int i = 0; i < 500; ++i)
        spec.add_lower(lower(dir.directory("l" + std::to_string(i), {i == 499 ? "last" : "f"})));
    overlay_mount::mount(spec, dir.target());
    CHECK(read(dir.target() + "/f") == "l0");
    CHECK(read(dir.target() + "/last") == "l499");
    spec.add_lower(lower(dir.directory("more")));
    const auto failure = failure_of([&] { overlay_mount::mount(spec, dir.target()); });
    CHECK(failure.code() == errc::too_many_layers);
    CHECK(failure.detail() == "the mount has 501 lower directories");
}

TEST_CASE("changes of a writable mount go to the upper directory")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto spec = stack({dir.directory("a", {"f"})})
                          .upper(mount_directory(dir.directory("upper")))
                          .work(mount_directory(dir.directory("work")));
    overlay_mount::mount(spec, dir.target());
    std::ofstream(dir.target() + "/new") << "written";
    fs::remove(dir.target() + "/f");
    unmount(dir.target(), false);
    CHECK(read(dir.at("upper/new")) == "written");
    struct ::stat info{};
    REQUIRE(::lstat(dir.at("upper/f").c_str(), &info) == 0);
    CHECK((S_ISCHR(info.st_mode) && info.st_rdev == 0));
    CHECK(read(dir.at("a/f")) == "a");
}

TEST_CASE("a volatile mount is marked as such, and the error of the next mount explains it")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto spec = stack({dir.directory("a", {"f"})})
                          .upper(mount_directory(dir.directory("upper")))
                          .work(mount_directory(dir.directory("work")))
                          .volatile_(true);
    overlay_mount::mount(spec, dir.target());
    const auto info = mountinfo::read();
    const auto* entry = info.find_by_target(dir.target());
    REQUIRE(entry != nullptr);
    CHECK(std::ranges::any_of(entry->super_options, [](const std::string& option) {
        return option == "volatile" || option == "fsync=volatile";
    }));
    unmount(dir.target(), false);
    const auto failure = failure_of([&] { overlay_mount::mount(spec, dir.target()); });
    CHECK(failure.code() == errc::mount_failed);
    CHECK_THAT(failure.detail(), Catch::Matchers::ContainsSubstring("volatile"));
}

TEST_CASE("a single lower directory without an upper one is refused, and nothing is mounted")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto failure = failure_of([&] { overlay_mount::mount(stack({dir.directory("a")}), dir.target()); });
    CHECK(failure.code() == errc::mount_not_possible);
    CHECK(mountinfo::read().find_by_target(dir.target()) == nullptr);
}

TEST_CASE("a repeated lower directory is named in the error")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto a = dir.directory("a");
    const auto failure =
        failure_of([&] { overlay_mount::mount(stack({a, dir.directory("b"), a}), dir.target()); });
    CHECK(failure.code() == errc::mount_failed);
    CHECK_THAT(failure.detail(), Catch::Matchers::ContainsSubstring("lower directories 1 and 3 are the same: " + a));
    CHECK_THAT(failure.operation(), Catch::Matchers::ContainsSubstring("create"));
    const auto nested =
        failure_of([&] { overlay_mount::mount(stack({a, dir.directory("a/inside")}), dir.target()); });
    CHECK(nested.code() == errc::mount_failed);
    CHECK_THAT(nested.detail(), Catch::Matchers::ContainsSubstring("lies inside another"));
}

TEST_CASE("a missing lower directory is named in the error")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto failure =
        failure_of([&] { overlay_mount::mount(stack({dir.directory("a"), dir.at("none")}), dir.target()); });
    CHECK(failure.code() == errc::mount_failed);
    CHECK(failure.subject() == dir.at("none"));
    CHECK(failure.operation() == "open lower 2");
    CHECK_THAT(failure.detail(), Catch::Matchers::ContainsSubstring("does not exist"));
}

TEST_CASE("a lower directory that is a file is named in the error")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto a = dir.directory("a", {"file"});
    const unique_fd file(::open((a + "/file").c_str(), O_PATH | O_CLOEXEC));
    const auto spec = stack({a}).add_lower(lower::borrowed(file.get(), a + "/file"));
    const auto failure = failure_of([&] { (void)overlay_mount::create(spec); });
    CHECK(failure.code() == errc::mount_failed);
    CHECK(failure.operation() == "fsconfig lower 2");
    CHECK_THAT(failure.detail(), Catch::Matchers::ContainsSubstring("not a directory"));
}

TEST_CASE("an upper directory on another file system than its work directory is explained in the error")
{
    NEEDS_MOUNTS();
    scratch dir;
    struct ::stat here{}, there{};
    if (::stat(dir.target().c_str(), &here) != 0 || ::stat("/dev/shm", &there) != 0 ||
        here.st_dev == there.st_dev)
        OVERMOUNT_SKIP("/dev/shm is no other file system");
    const auto spec = stack({dir.directory("a")})
                          .upper(mount_directory(dir.directory("upper")))
                          .work(mount_directory("/dev/shm"));
    const auto failure = failure_of([&] { overlay_mount::mount(spec, dir.target()); });
    CHECK(failure.code() == errc::mount_failed);
    CHECK_THAT(failure.detail(), Catch::Matchers::ContainsSubstring("another file system"));
}

TEST_CASE("a third overlay on top of two others is explained in the error")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto empty = dir.directory("empty");
    unique_fd below = overlay_mount::create(stack({dir.directory("a", {"f"}), empty}));
    below = overlay_mount::create(stack({empty}).add_lower(lower::borrowed(below.get())));
    const auto failure = failure_of(
        [&] { (void)overlay_mount::create(stack({empty}).add_lower(lower::borrowed(below.get()))); });
    CHECK(failure.code() == errc::mount_failed);
    CHECK_THAT(failure.detail(), Catch::Matchers::ContainsSubstring("at most two"));
}

TEST_CASE("lower directories may have paths of any length and any bytes, by descriptor, by text and by mount(2)")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto deep = dir.directory(std::string(200, 'x') + "/" + std::string(200, 'y'), {"f"});
    const auto odd = dir.directory("a:b,c\\d \n", {"g"});
    const auto upper = dir.directory("u:b,c\\d", {"h"});
    const auto spec =
        stack({deep, odd}).upper(mount_directory(upper)).work(mount_directory(dir.directory("w:b,c\\d")));
    const auto check = [&](const std::string& root) {
        CHECK(names(root) == std::set<std::string>{"f", "g", "h"});
    };
    SECTION("descriptor")
    {
        const auto mount = overlay_mount::create(spec);
        check("/proc/self/fd/" + std::to_string(mount.get()));
    }
    SECTION("text")
    {
        const auto mount = create_overlay(spec, overmount::detail::directory_form::text);
        check("/proc/self/fd/" + std::to_string(mount.get()));
    }
    SECTION("mount(2)")
    {
        overlay_mount::mount_at(spec, dir.target());
        check(dir.target());
    }
}

TEST_CASE("lower directories can be given by descriptor alone, in every way to mount")
{
    NEEDS_MOUNTS();
    scratch dir;
    mount_spec spec;
    spec.add_lower(lower(open_directory(dir.directory("a", {"f"}))));
    spec.add_lower(lower(open_directory(dir.directory("b", {"f", "g"}))));
    overlay_mount::mount(spec, dir.target());
    CHECK(read(dir.target() + "/f") == "a");
    unmount(dir.target(), false);
    auto mount = create_overlay(spec, overmount::detail::directory_form::text);
    overlay_mount::attach(mount.get(), dir.target());
    mount.reset();
    CHECK(read(dir.target() + "/g") == "b");
    unmount(dir.target(), false);
    overlay_mount::mount_at(spec, dir.target());
    CHECK(read(dir.target() + "/f") == "a");
}

TEST_CASE("mount(2) makes the same mount")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto spec = stack({dir.directory("a", {"f"}), dir.directory("b", {"f", "g"})})
                          .source("overmount:old")
                          .read_only(true)
                          .nosuid(true);
    const auto options = [&] {
        const auto info = mountinfo::read();
        const auto* entry = info.find_by_target(dir.target());
        REQUIRE(entry != nullptr);
        CHECK(entry->source == "overmount:old");
        return entry->options;
    };
    overlay_mount::mount_at(spec, dir.target());
    CHECK(read(dir.target() + "/f") == "a");
    const auto old = options();
    unmount(dir.target(), false);
    overlay_mount::mount(spec, dir.target());
    CHECK(options() == old);
}

TEST_CASE("more lower directories than mount(2) can take are refused, not truncated")
{
    NEEDS_MOUNTS();
    scratch dir;
    mount_spec spec;
    for (int i = 0; i < 300; ++i)
        spec.add_lower(lower(dir.directory("lower" + std::to_string(i))));
    const auto failure = failure_of([&] { overlay_mount::mount_at(spec, dir.target()); });
    CHECK(failure.code() == errc::mount_not_possible);
    CHECK_THAT(failure.detail(), Catch::Matchers::ContainsSubstring("4095"));
    CHECK(mountinfo::read().find_by_target(dir.target()) == nullptr);
}

TEST_CASE("mount flags, source and propagation are visible in mountinfo")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto spec = stack({dir.directory("a")})
                          .upper(mount_directory(dir.directory("upper")))
                          .work(mount_directory(dir.directory("work")))
                          .source("overmount:some id")
                          .read_only(true)
                          .nosuid(true)
                          .nodev(true)
                          .noexec(true);
    overlay_mount::mount(spec, dir.target());
    const auto info = mountinfo::read();
    const auto* entry = info.find_by_target(dir.target());
    REQUIRE(entry != nullptr);
    CHECK(entry->source == "overmount:some id");
    CHECK(entry->fs_type == "overlay");
    for (const char* option : {"ro", "nosuid", "nodev", "noexec"})
        CHECK(std::ranges::count(entry->options, option) == 1);
    CHECK_FALSE(std::ofstream(dir.target() + "/new").is_open());
    // A private mount has no optional field between its options and the hyphen.
    std::ifstream table("/proc/self/mountinfo");
    std::string line, found;
    while (std::getline(table, line))
        if (line.find(" - overlay overmount:some\\040id ") != std::string::npos)
            found = line;
    CHECK_THAT(found, !Catch::Matchers::ContainsSubstring("shared:") && !Catch::Matchers::ContainsSubstring("master:"));
}

TEST_CASE("a busy mount stays until it is detached")
{
    NEEDS_MOUNTS();
    scratch dir;
    overlay_mount::mount(stack({dir.directory("a", {"f"}), dir.directory("b")}), dir.target());
    std::ifstream busy(dir.target() + "/f");
    const auto failure = failure_of([&] { unmount(dir.target(), false); });
    CHECK(failure.code() == condition::conflict);
    CHECK(failure.code().value() == EBUSY);
    CHECK(failure.subject() == dir.target());
    CHECK(mountinfo::read().find_by_target(dir.target()) != nullptr);
    unmount(dir.target(), true);
    CHECK(mountinfo::read().find_by_target(dir.target()) == nullptr);
    std::string text;
    CHECK(std::getline(busy, text));
    CHECK(text == "a");
}

TEST_CASE("a failed mount leaves no descriptor open")
{
    NEEDS_MOUNTS();
    scratch dir;
    const auto count = [] { return names("/proc/self/fd").size(); };
    const auto before = count();
    const auto a = dir.directory("a"), b = dir.directory("b");
    CHECK(failure_of([&] { overlay_mount::mount(stack({a, a}), dir.target()); }).code() ==
          errc::mount_failed);
    CHECK(failure_of([&] { overlay_mount::mount(stack({a, b}), dir.at("none")); }).code() ==
          errc::mount_failed);
    CHECK(failure_of([&] { overlay_mount::mount_at(stack({a, b}), dir.at("none")); }).code() ==
          errc::mount_failed);
    overlay_mount::mount(stack({a, b}), dir.target());
    CHECK(count() == before);
}

TEST_CASE("a detached mount is visible once it is attached, and stays when its descriptor is closed")
{
    NEEDS_MOUNTS();
    scratch dir;
    auto mount =
        overlay_mount::create(stack({dir.directory("a", {"f"}), dir.directory("b")}).source("overmount:x"));
    CHECK(mountinfo::read().find_by_target(dir.target()) == nullptr);
    const unique_fd target = open_directory(dir.target());
    overlay_mount::attach(mount.get(), target.get());
    CHECK(mountinfo::read().find_by_target(dir.target()) != nullptr);
    mount.reset();
    CHECK(read(dir.target() + "/f") == "a");
}
