#include <overmount/storage/on_disk/tree_compare.hpp>

#include <overmount/posix/fs.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <fstream>
#include <map>

namespace fs = std::filesystem;
namespace om = overmount;
using om::test::scratch_directory;

namespace {

using differences = std::map<std::string, std::string>;

// Two trees that are equal until a test changes the second.
struct trees
{
    trees()
    {
        for (const char* name : {"wanted", "found"})
            make(scratch / name);
    }
    static void set_time(const fs::path& path, time_t seconds, long nanoseconds = 5)
    {
        const timespec times[] = {{0, UTIME_OMIT}, {seconds, nanoseconds}};
        REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
    }
    static void make(const fs::path& top)
    {
        fs::create_directories(top / "a/b");
        std::ofstream(top / "a/file") << "12345";
        std::ofstream(top / "a/one") << "1";
        std::ofstream(top / "a/two") << "2";
        fs::create_hard_link(top / "a/one", top / "a/b/one");
        fs::create_hard_link(top / "a/two", top / "a/b/two");
        fs::create_symlink("file", top / "a/link");
        REQUIRE(::mkfifo((top / "fifo").c_str(), 0600) == 0);
        REQUIRE(::setxattr((top / "a/file").c_str(), "user.a", "1", 1, 0) == 0);
        for (const char* path : {"a/b/one", "a/b/two", "a/file", "a/link", "a/b", "a", "fifo", ""})
            set_time(top / path, 1000);
    }
    [[nodiscard]] differences compare() const
    {
        const om::unique_fd left(::open((scratch / "wanted").c_str(), O_PATH | O_DIRECTORY));
        const om::unique_fd right(::open((scratch / "found").c_str(), O_PATH | O_DIRECTORY));
        differences out;
        const om::verify_context context(
            om::write_context(-1, "", om::limits()),
            [&out](std::string_view path, std::string_view how) {
                CHECK(out.emplace(path, how).second);
            },
            [] {});
        om::detail::compare_trees(left.get(), right.get(), context);
        return out;
    }

    scratch_directory scratch;
    fs::path found = scratch / "found";
};

} // namespace

TEST_CASE("equal trees have no differences")
{
    CHECK(trees().compare().empty());
}

TEST_CASE("a missing, additional or different file is reported, and nothing below it")
{
    const trees one;
    fs::remove_all(one.found / "a/b");
    fs::create_directories(one.found / "new/below");
    fs::remove(one.found / "fifo");
    std::ofstream(one.found / "fifo") << "";
    trees::set_time(one.found / "a", 1000);
    trees::set_time(one.found, 1000);
    // The other names of files that were in a/b have fewer links now.
    CHECK(one.compare() == differences{{"a/b", "it is missing"},
                                       {"a/one", "its hard links differ"},
                                       {"a/two", "its hard links differ"},
                                       {"fifo", "it is a regular file, was a fifo"},
                                       {"new", "the layer has no such entry"}});
}

TEST_CASE("each attribute that differs is reported")
{
    const trees one;
    fs::permissions(one.found / "a/file", fs::perms(0640));
    fs::permissions(one.scratch / "wanted/a/file", fs::perms(04755));
    CHECK(one.compare() == differences{{"a/file", "its mode is 0640, was 4755"}});
    fs::permissions(one.found / "a/file", fs::perms(04755));
    trees::set_time(one.found / "a/b", 1000, 6);
    trees::set_time(one.found, 1001);
    CHECK(one.compare() == differences{{"", "its modification time differs"}, {"a/b", "its modification time differs"}});
    trees::set_time(one.found / "a/b", 1000);
    trees::set_time(one.found, 1000);
    fs::resize_file(one.found / "a/file", 4);
    trees::set_time(one.found / "a/file", 1000);
    CHECK(one.compare() == differences{{"a/file", "its size is 4, was 5"}});
    fs::resize_file(one.found / "a/file", 5);
    trees::set_time(one.found / "a/file", 1000);
    REQUIRE(::setxattr((one.found / "a/file").c_str(), "user.a", "2", 1, 0) == 0);
    CHECK(one.compare() == differences{{"a/file", "its extended attributes differ"}});
    REQUIRE(::removexattr((one.found / "a/file").c_str(), "user.a") == 0);
    CHECK(one.compare() == differences{{"a/file", "its extended attributes differ"}});
}

TEST_CASE("a symbolic link with another target is reported")
{
    const trees one;
    fs::remove(one.found / "a/link");
    fs::create_symlink("fil\n", one.found / "a/link");
    for (const char* path : {"a/link", "a"})
        trees::set_time(one.found / path, 1000);
    CHECK(one.compare() == differences{{"a/link", "its target is fil\\n, was file"}});
}

TEST_CASE("files that have exchanged one of their names are reported")
{
    const trees one;
    fs::rename(one.found / "a/b/one", one.found / "a/b/three");
    fs::rename(one.found / "a/b/two", one.found / "a/b/one");
    fs::rename(one.found / "a/b/three", one.found / "a/b/two");
    trees::set_time(one.found / "a/b", 1000);
    CHECK(one.compare() == differences{{"a/b/one", "its hard links differ"},
                                       {"a/b/two", "its hard links differ"}});
}

TEST_CASE("another owner and device are reported, and of a whiteout only that it is another type")
{
    if (::geteuid() != 0)
        OVERMOUNT_SKIP("making devices needs root");
    const trees one;
    for (const char* top : {"wanted", "found"}) {
        const fs::path path = one.scratch / top;
        const bool second = path == one.found;
        REQUIRE(::mknod((path / "device").c_str(), S_IFCHR | 0600, ::makedev(1, second ? 5 : 3)) == 0);
        REQUIRE(::mknod((path / "gone").c_str(), S_IFCHR | (second ? 0644 : 0), 0) == 0);
        REQUIRE(::mknod((path / "none").c_str(), S_IFCHR | 0600, second ? ::makedev(1, 3) : 0) == 0);
        trees::set_time(path / "device", 1000);
        trees::set_time(path, 1000);
    }
    REQUIRE(::chown((one.found / "a/file").c_str(), 7, 8) == 0);
    CHECK(one.compare() == differences{{"a/file", "its owner is 7:8, was 0:0"},
                                       {"device", "its device is 1:5, was 1:3"},
                                       {"none", "it is a character device, was a whiteout"}});
}
