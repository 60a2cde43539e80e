#include <overmount/storage/on_disk/extractor.hpp>

#include <overmount/posix/unique_fd.hpp>
#include <overmount/tar/framing.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#define NEEDS_ROOT()                                                                                         \
    if (::geteuid() != 0)                                                                                    \
    OVERMOUNT_SKIP("needs root")

namespace {

using overmount::errc;
using overmount::unique_fd;
using overmount::test::scratch_directory;
using overmount::test::tar_writer;
namespace tar = overmount::tar;

// An empty root, and an extractor that unpacks into it. Next to the root are the directories `trash` and `canary`.
class layer
{
public:
    layer()
    {
        for (const char* name : {"root", "trash", "canary"})
            std::filesystem::create_directory(scratch_ / name);
        std::ofstream(scratch_ / "canary/bird") << "alive";
    }

    overmount::detail::tree_notes unpack(const tar_writer& archive)
    {
        const std::string bytes = archive.finish();
        const unique_fd root(::open((scratch_ / "root").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        const unique_fd trash(::open((scratch_ / "trash").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        overmount::detail::extractor files(root.get(), trash.get(), {}, false);
        tar::framing frames{overmount::limits()};
        auto input = std::as_bytes(std::span(bytes));
        for (auto what = frames.next(input); what != tar::event::need_input; what = frames.next(input)) {
            if (what == tar::event::entry)
                files.begin(frames.entry());
            else if (what == tar::event::data)
                files.data(frames.data_offset(), frames.data());
            else if (what == tar::event::entry_end)
                files.end();
        }
        return files.finish();
    }

    // The error of unpacking; none if it succeeds.
    boost::system::error_code failure(const tar_writer& archive)
    {
        try {
            unpack(archive);
        } catch (const overmount::error& failed) {
            return failed.code();
        }
        return {};
    }

    [[nodiscard]] std::filesystem::path operator/(const std::string& path) const
    {
        return scratch_ / "root" / path;
    }

    // The type: f d l c b p w(hiteout), or - if there is no file.
    [[nodiscard]] char type(const std::string& path) const
    {
        struct stat found{};
        if (::lstat((*this / path).c_str(), &found) != 0)
            return '-';
        switch (found.st_mode & S_IFMT) {
        case S_IFREG:
            return 'f';
        case S_IFDIR:
            return 'd';
        case S_IFLNK:
            return 'l';
        case S_IFBLK:
            return 'b';
        case S_IFIFO:
            return 'p';
        case S_IFCHR:
            return found.st_rdev == 0 ? 'w' : 'c';
        default:
            return '?';
        }
    }
    [[nodiscard]] struct stat status(const std::string& path) const
    {
        struct stat found{};
        REQUIRE(::lstat((*this / path).c_str(), &found) == 0);
        return found;
    }
    [[nodiscard]] unsigned mode(const std::string& path) const { return status(path).st_mode & 07777; }
    [[nodiscard]] std::string content(const std::string& path) const
    {
        REQUIRE(type(path) == 'f');
        std::ifstream in(*this / path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    [[nodiscard]] std::optional<std::string> xattr(const std::string& path, const char* name) const
    {
        std::array<char, 1024> value;
        const auto size = ::lgetxattr((*this / path).c_str(), name, value.data(), value.size());
        if (size < 0)
            return std::nullopt;
        return std::string(value.data(), static_cast<std::size_t>(size));
    }
    [[nodiscard]] bool opaque(const std::string& path) const
    {
        return xattr(path, "trusted.overlay.opaque") == "y";
    }

    // The directory outside the root, and whether it is unchanged.
    [[nodiscard]] std::string canary() const { return (scratch_ / "canary").native(); }
    [[nodiscard]] bool canary_lives() const
    {
        std::ifstream in(scratch_ / "canary/bird");
        const std::string text{std::istreambuf_iterator<char>(in), {}};
        const auto entries = std::filesystem::directory_iterator(scratch_ / "canary");
        return text == "alive" && std::distance(begin(entries), end(entries)) == 1;
    }

private:
    scratch_directory scratch_;
};

TEST_CASE("a whiteout becomes a character device 0:0")
{
    NEEDS_ROOT();
    layer made;
    const auto notes = made.unpack(tar_writer().directory("d").whiteout("d/a"));
    CHECK(made.type("d/a") == 'w');
    CHECK(made.type("d/.wh.a") == '-');
    CHECK(notes.whiteout_directories == std::vector<std::string>{"d"});
}

TEST_CASE("a whiteout and a file of its name leave the file, in either order")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer().whiteout("a").file("a", "new").file("b", "kept").whiteout("b"));
    CHECK(made.content("a") == "new");
    CHECK(made.content("b") == "kept");
}

TEST_CASE("a directory with a whiteout of its name is opaque, in either order")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer()
                    .whiteout("a")
                    .directory("a")
                    .file("a/f", "")
                    .directory("b")
                    .file("b/f", "")
                    .whiteout("b")
                    .whiteout("c")
                    .file("c/f", "")
                    .directory("plain"));
    for (const char* name : {"a", "b", "c"}) {
        INFO(name);
        CHECK(made.opaque(name));
        CHECK(made.type(std::string(name) + "/f") == 'f');
    }
    CHECK_FALSE(made.opaque("plain"));
}

TEST_CASE("an opaque marker keeps the files of its own layer, before and after it")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer().directory("d").file("d/a", "a").opaque("d").file("d/b", "b"));
    CHECK(made.opaque("d"));
    CHECK(made.content("d/a") == "a");
    CHECK(made.content("d/b") == "b");
    CHECK(made.type("d/.wh..wh..opq") == '-');
}

TEST_CASE("an opaque root is recorded, not written to the tree")
{
    NEEDS_ROOT();
    layer made;
    const auto notes = made.unpack(tar_writer().opaque("").file("a", ""));
    CHECK(notes.opaque_root);
    CHECK(notes.implied_root);
    CHECK_FALSE(made.opaque("."));
}

TEST_CASE("a whiteout in an opaque directory, or below one, is not written")
{
    NEEDS_ROOT();
    layer made;
    const auto notes = made.unpack(tar_writer()
                                       .directory("d")
                                       .whiteout("d/before")
                                       .directory("d/e")
                                       .whiteout("d/e/below")
                                       .opaque("d")
                                       .whiteout("d/after")
                                       .file("d/kept", ""));
    for (const char* name : {"d/before", "d/after", "d/e/below"})
        CHECK(made.type(name) == '-');
    CHECK(made.type("d/kept") == 'f');
    CHECK(notes.whiteout_directories.empty());
}

TEST_CASE("a malformed whiteout is an error, a leftover of aufs is not")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.failure(tar_writer().file(".wh.", "")) == errc::invalid_whiteout);
    CHECK(made.failure(tar_writer().file(".wh...", "")) == errc::invalid_whiteout);
    CHECK_FALSE(made.failure(tar_writer().directory(".wh..wh.plnk").file(".wh..wh.aufs", "text")).failed());
    CHECK(std::filesystem::is_empty(made / ""));
}

TEST_CASE("a hard link is the same file as its target")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer().file("d/a", "a").hard_link("b", "./d/a").symlink("l", "x").hard_link("m", "/l"));
    CHECK(made.status("b").st_ino == made.status("d/a").st_ino);
    CHECK(made.type("m") == 'l');
    CHECK(made.status("m").st_ino == made.status("l").st_ino);
}

TEST_CASE("a hard link to a file that its layer deletes or lacks is an error")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.failure(tar_writer().whiteout("a").hard_link("b", "a")) == errc::missing_hard_link_target);
    CHECK(made.failure(tar_writer().hard_link("c", "none")) == errc::missing_hard_link_target);
    CHECK(made.failure(tar_writer().hard_link("c", "no/where")) == errc::missing_hard_link_target);
    CHECK(made.failure(tar_writer().directory("d").hard_link("c", "d")) == errc::missing_hard_link_target);
    CHECK(made.failure(tar_writer().hard_link("c", "../canary/bird")) == errc::entry_escapes_layer);
}

TEST_CASE("a path with two dots is refused")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.failure(tar_writer().file("../canary/bird", "dead")) == errc::entry_escapes_layer);
    CHECK(made.failure(tar_writer().directory("d").file("d/../../canary/bird", "dead")) ==
          errc::entry_escapes_layer);
    CHECK(made.failure(tar_writer().directory("..")) == errc::entry_escapes_layer);
    CHECK(made.failure(tar_writer().file(".", "")) == errc::entry_escapes_layer);
    CHECK(made.canary_lives());
}

TEST_CASE("a symbolic link among an entry's parents is followed inside the root")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer()
                    .directory("d")
                    .symlink("relative", "d")
                    .symlink("absolute", "/d")
                    .symlink("above", "../../../d")
                    .file("relative/a", "a")
                    .file("absolute/b", "b")
                    .file("above/c", "c"));
    CHECK(made.type("relative") == 'l');
    for (const char* name : {"d/a", "d/b", "d/c"})
        CHECK(made.type(name) == 'f');
}

TEST_CASE("a symbolic link among an entry's parents does not lead out of the root")
{
    NEEDS_ROOT();
    layer made;
    for (const std::string& target : {made.canary(), std::string("../canary")}) {
        INFO(target);
        CHECK(made.failure(tar_writer().symlink("l", target).file("l/bird", "dead")).failed());
        CHECK(made.failure(tar_writer().symlink("l", target).directory("l/d")).failed());
        CHECK(made.failure(tar_writer().symlink("l", target).whiteout("l/bird")).failed());
        CHECK(made.failure(tar_writer().symlink("l", target).opaque("l")).failed());
        CHECK(made.failure(tar_writer().symlink("l", target).hard_link("m", "l/bird")) ==
              errc::missing_hard_link_target);
        CHECK(made.canary_lives());
    }
}

TEST_CASE("a symbolic link as the last component is replaced, not followed")
{
    NEEDS_ROOT();
    layer made;
    const std::string bird = made.canary() + "/bird";
    made.unpack(tar_writer().symlink("l", bird).file("l", "new", {.mode = 0600, .uid = 7}));
    CHECK(made.content("l") == "new");
    made.unpack(tar_writer().symlink("m", made.canary()).directory("m", {.mode = 0700, .uid = 7}));
    CHECK(made.type("m") == 'd');
    struct stat outside{};
    REQUIRE(::stat(made.canary().c_str(), &outside) == 0);
    CHECK(outside.st_uid == 0);
    CHECK(made.canary_lives());
}

TEST_CASE("a directory gets its mode, owner and time after its children")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer()
                    .directory("d", {.mode = 0, .uid = 3, .gid = 4, .mtime = 1000, .mtime_ns = 5})
                    .directory("d/e", {.mode = 02750, .mtime = -1, .mtime_ns = 500'000'000})
                    .file("d/e/a", "a")
                    .file("d/b", "b"));
    CHECK(made.content("d/e/a") == "a");
    CHECK(made.mode("d") == 0);
    CHECK(made.status("d").st_uid == 3);
    CHECK(made.status("d").st_gid == 4);
    CHECK(made.status("d").st_mtim.tv_sec == 1000);
    CHECK(made.status("d").st_mtim.tv_nsec == 5);
    CHECK(made.mode("d/e") == 02750);
    CHECK(made.status("d/e").st_mtim.tv_sec == -1);
    CHECK(made.status("d/e").st_mtim.tv_nsec == 500'000'000);
}

TEST_CASE("directories get their modes and times even if there are more than are kept open")
{
    NEEDS_ROOT();
    layer made;
    tar_writer archive;
    constexpr int count = 30;
    const auto name = [](int number) { return "d" + std::to_string(number); };
    for (int number = 0; number < count; ++number)
        archive.directory(name(number), {.mode = 0700u + static_cast<unsigned>(number), .mtime = 1000 + number});
    for (int number = 0; number < count; ++number)
        archive.file(name(number) + "/a", "a").directory(name(number) + "/e", {.mode = 0711, .mtime = 7});
    // One directory is removed and created again while it may be open, another one is removed.
    archive.file(name(count - 1), "no directory").file(name(count - 2), "for a while");
    archive.directory(name(count - 2), {.mode = 0755, .mtime = 5}).file(name(count - 2) + "/b", "b");
    made.unpack(archive);
    for (int number = 0; number < count - 2; ++number) {
        CHECK(made.mode(name(number)) == 0700u + static_cast<unsigned>(number));
        CHECK(made.status(name(number)).st_mtim.tv_sec == 1000 + number);
        CHECK(made.mode(name(number) + "/e") == 0711);
        CHECK(made.status(name(number) + "/e").st_mtim.tv_sec == 7);
        CHECK(made.content(name(number) + "/a") == "a");
    }
    CHECK(made.type(name(count - 1)) == 'f');
    CHECK(made.mode(name(count - 2)) == 0755);
    CHECK(made.status(name(count - 2)).st_mtim.tv_sec == 5);
    CHECK(made.content(name(count - 2) + "/b") == "b");
    CHECK(made.type(name(count - 2) + "/a") == '-');
}

TEST_CASE("a directory without an entry is implied until it gets one")
{
    NEEDS_ROOT();
    layer made;
    const auto notes =
        made.unpack(tar_writer().file("a/b/c", "").directory("a", {.mode = 0711, .mtime = 77}));
    CHECK(notes.implied == std::vector<std::string>{"a/b"});
    CHECK(made.mode("a") == 0711);
    CHECK(made.status("a").st_mtim.tv_sec == 77);
}

TEST_CASE("a directory reached through a link keeps its attributes when the link is replaced later")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer()
                    .directory("d")
                    .symlink("l", "d")
                    .whiteout("l/e")
                    .directory("l/e", {.mode = 0751, .uid = 9, .mtime = 99})
                    .file("l", "no link any more"));
    CHECK(made.type("l") == 'f');
    CHECK(made.mode("d/e") == 0751);
    CHECK(made.status("d/e").st_uid == 9);
    CHECK(made.status("d/e").st_mtim.tv_sec == 99);
    CHECK(made.opaque("d/e"));
}

TEST_CASE("set-uid and set-gid survive the change of owner")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer().file("a", "text", {.mode = 06755, .uid = 7, .gid = 8, .mtime = 50}));
    CHECK(made.mode("a") == 06755);
    CHECK(made.status("a").st_uid == 7);
    CHECK(made.status("a").st_gid == 8);
    CHECK(made.status("a").st_mtim.tv_sec == 50);
}

TEST_CASE("a thread with its own umask creates each file with its mode, independent of the process's umask")
{
    layer made;
    const mode_t before = ::umask(077);
    std::thread worker([&made] {
        overmount::detail::own_fs_attributes();
        const overmount::detail::exact_modes of_entries;
        made.unpack(tar_writer()
                        .directory("d", {.mode = 0777})
                        .file("d/open", "text", {.mode = 0666})
                        .file("d/closed", "text", {.mode = 0})
                        .file("set", "text", {.mode = 04755})
                        .file("set", "again", {.mode = 0777}));
    });
    worker.join();
    const mode_t after = ::umask(before);
    CHECK(after == 077);
    CHECK(made.mode("d") == 0777);
    CHECK(made.mode("d/open") == 0666);
    CHECK(made.mode("d/closed") == 0);
    CHECK(made.mode("set") == 0777);
}

TEST_CASE("a file has its mode even if the file system changes the mode that open(2) is given")
{
    const scratch_directory scratch;
    std::filesystem::create_directory(scratch / "root");
    const unique_fd root(::open((scratch / "root").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const unique_fd beside(::open(scratch.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // user::rwx, group::r-x, other::---
    const std::string acl("\x02\0\0\0"
                          "\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
                          28);
    bool cuts = false;
    std::thread worker([&] {
        overmount::detail::own_fs_attributes();
        const overmount::detail::exact_modes of_entries;
        overmount::detail::extractor files(root.get(), beside.get(), {}, false);
        // After the extractor has checked the root, like an ACL that only the server of a network file system sees.
        cuts = ::fsetxattr(root.get(), "system.posix_acl_default", acl.data(), acl.size(), 0) == 0;
        tar::entry entry;
        for (const auto& [name, mode] : {std::pair("a", 0600u), {"b", 0666u}, {"c", 0644u}}) {
            entry.path = name;
            entry.mode = mode;
            entry.uid = ::geteuid();
            entry.gid = ::getegid();
            files.begin(entry);
            files.end();
        }
    });
    worker.join();
    if (!cuts)
        OVERMOUNT_SKIP("the file system has no ACLs");
    struct stat status{};
    for (const auto& [name, mode] : {std::pair("a", 0600u), {"b", 0666u}, {"c", 0644u}}) {
        INFO(name);
        REQUIRE(::fstatat(root.get(), name, &status, 0) == 0);
        CHECK((status.st_mode & 07777) == mode);
    }
}

TEST_CASE("links, fifos and devices have their owner, mode and time")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer()
                    .symlink("l", "nowhere", {.uid = 7, .gid = 8, .mtime = 50})
                    .fifo("p", {.mode = 0622, .uid = 7, .mtime = 51})
                    .character_device("c", 1, 3, {.mode = 0666, .mtime = 52})
                    .block_device("b", 0, 0, {.mode = 04600, .uid = 9}));
    CHECK(made.status("l").st_uid == 7);
    CHECK(made.status("l").st_gid == 8);
    CHECK(made.status("l").st_mtim.tv_sec == 50);
    CHECK(made.type("p") == 'p');
    CHECK(made.mode("p") == 0622);
    CHECK(made.status("p").st_uid == 7);
    CHECK(made.status("p").st_mtim.tv_sec == 51);
    CHECK(made.type("c") == 'c');
    CHECK(made.status("c").st_rdev == ::makedev(1, 3));
    CHECK(made.mode("c") == 0666);
    CHECK(made.type("b") == 'b');
    CHECK(made.mode("b") == 04600);
}

TEST_CASE("a character device 0:0 is refused: it would be a whiteout")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.failure(tar_writer().character_device("c", 0, 0)) == errc::unsupported_entry_type);
    CHECK(made.type("c") == '-');
}

TEST_CASE("user attributes and file capabilities are stored")
{
    NEEDS_ROOT();
    layer made;
    const std::string capability("\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    const std::string binary("a\0=\n", 4);
    const auto notes =
        made.unpack(tar_writer()
                        .file("a", "text",
                              {.uid = 7, .xattrs = {{"security.capability", capability}, {"user.a", binary}}})
                        .directory("d", {.uid = 7, .xattrs = {{"user.d", "of a directory"}}}));
    CHECK(made.xattr("a", "security.capability") == capability);
    CHECK(made.xattr("a", "user.a") == binary);
    CHECK(made.xattr("d", "user.d") == "of a directory");
    CHECK(made.content("a") == "text");
    CHECK_FALSE(notes.skipped_xattrs);
}

TEST_CASE("xattrs of overlayfs are skipped, and that is recorded")
{
    NEEDS_ROOT();
    layer made;
    const overmount::test::string_pairs attributes{{"trusted.overlay.opaque", "y"},
                                                   {"trusted.overlay.redirect", "/etc"},
                                                   {"trusted.overlay.metacopy", ""},
                                                   {"user.overlay.opaque", "y"}};
    const auto notes = made.unpack(
        tar_writer().directory("d", {.xattrs = attributes}).file("a", "", {.xattrs = attributes}));
    for (const auto& [name, value] : attributes) {
        CHECK_FALSE(made.xattr("d", name.c_str()));
        CHECK_FALSE(made.xattr("a", name.c_str()));
    }
    CHECK(notes.skipped_xattrs);
}

TEST_CASE("an entry replaces an entry of another type")
{
    NEEDS_ROOT();
    const auto put = [](tar_writer& out, char type) {
        if (type == 'f')
            out.file("x", "file", {.mode = 0604});
        else if (type == 'l')
            out.symlink("x", "nowhere");
        else
            out.directory("x", {.mode = 0705}).file("x/child", "");
    };
    for (const char first : {'f', 'l', 'd'}) {
        for (const char second : {'f', 'l', 'd'}) {
            if (first == second)
                continue;
            INFO(first << " then " << second);
            layer made;
            tar_writer out;
            put(out, first);
            put(out, second);
            out.file("y", "after");
            made.unpack(out);
            CHECK(made.type("nowhere") == '-');
            CHECK(made.type("x") == second);
            CHECK(made.content("y") == "after");
            if (second == 'f')
                CHECK(made.content("x") == "file");
            if (second != 'l')
                CHECK(made.mode("x") == (second == 'f' ? 0604u : 0705u));
            CHECK(made.type("x/child") == (second == 'd' ? 'f' : '-'));
        }
    }
}

TEST_CASE("a directory that replaces a file which replaced a directory has only its new children")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer()
                    .directory("d", {.mode = 0700})
                    .file("d/old", "")
                    .file("d", "")
                    .directory("d", {.mode = 0711})
                    .file("d/new", "new"));
    CHECK(made.type("d/old") == '-');
    CHECK(made.content("d/new") == "new");
    CHECK(made.mode("d") == 0711);
}

TEST_CASE("the last of two entries with the same path wins")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer()
                    .file("a", "first and longer", {.mode = 0600, .xattrs = {{"user.old", "1"}}})
                    .hard_link("b", "a")
                    .file("./a", "last", {.mode = 0640})
                    .directory("d", {.mode = 0700})
                    .file("d/child", "")
                    .directory("d", {.mode = 0755, .mtime = 5})
                    .symlink("l", "old")
                    .symlink("l", "new"));
    CHECK(made.content("a") == "last");
    CHECK(made.mode("a") == 0640);
    CHECK_FALSE(made.xattr("a", "user.old"));
    CHECK(made.content("b") == "first and longer");
    CHECK(made.type("d/child") == 'f');
    CHECK(made.mode("d") == 0755);
    CHECK(made.status("d").st_mtim.tv_sec == 5);
    CHECK(std::filesystem::read_symlink(made / "l") == "new");
}

TEST_CASE("a sparse file has its size, and zeros in its holes")
{
    NEEDS_ROOT();
    layer made;
    made.unpack(tar_writer().file("a", "0123",
                                  {.pax = {{"GNU.sparse.size", "1048576"}, {"GNU.sparse.map", "524288,4"}}}));
    const std::string text = made.content("a");
    CHECK(text.size() == 1048576);
    CHECK(text.substr(524287, 6) == std::string("\0"
                                                "0123\0",
                                                6));
    CHECK(made.status("a").st_blocks * 512 < 1048576);
}

TEST_CASE("a set-gid parent directory does not pass on its group")
{
    NEEDS_ROOT();
    layer made;
    REQUIRE(::chown((made / "").c_str(), 0, 77) == 0);
    REQUIRE(::chmod((made / "").c_str(), 02777) == 0);
    made.unpack(tar_writer().file("a", "").symlink("l", "a").fifo("p").directory("d").file("d/b", "").file(
        "implied/c", ""));
    for (const char* name : {"", "a", "l", "p", "d", "d/b", "implied", "implied/c"}) {
        INFO(name);
        CHECK(made.status(name).st_gid == 0);
        CHECK((made.mode(name) & 02000) == 0);
    }
}

TEST_CASE("a default ACL of the parent directory is not inherited")
{
    NEEDS_ROOT();
    layer made;
    // user::rwx, user 9:rwx, group::rwx, mask::rwx, other::rwx
    const std::string acl("\x02\0\0\0"
                          "\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\x09\0\0\0\x04\0\x07\0\xff\xff\xff\xff"
                          "\x10\0\x07\0\xff\xff\xff\xff\x20\0\x07\0\xff\xff\xff\xff",
                          44);
    if (::setxattr((made / "").c_str(), "system.posix_acl_default", acl.data(), acl.size(), 0) != 0)
        OVERMOUNT_SKIP("the file system has no ACLs");
    made.unpack(tar_writer().file("a", "").fifo("p").directory("d").file("d/b", ""));
    for (const char* name : {"", "a", "p", "d", "d/b"}) {
        INFO(name);
        CHECK_FALSE(made.xattr(name, "system.posix_acl_access"));
        CHECK_FALSE(made.xattr(name, "system.posix_acl_default"));
    }
    CHECK(made.mode("a") == 0644);
}

TEST_CASE("ACLs are set on their own entries, and a directory's default ACL is not inherited by its children")
{
    NEEDS_ROOT();
    layer made;
    const std::string acl("\x02\0\0\0"
                          "\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x09\0\0\0\x04\0\x04\0\xff\xff\xff\xff"
                          "\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
                          44);
    const overmount::test::string_pairs access{{"system.posix_acl_access", acl}};
    const auto notes = made.unpack(tar_writer()
                                       .directory("d", {.xattrs = {{"system.posix_acl_default", acl}}})
                                       .file("d/plain", "")
                                       .directory("d/e")
                                       .file("a", "", {.mode = 0640, .xattrs = access})
                                       .fifo("p", {.mode = 0640, .xattrs = access}));
    if (notes.skipped_xattrs)
        OVERMOUNT_SKIP("the file system has no ACLs");
    for (const char* name : {"a", "p"}) {
        INFO(name);
        CHECK(made.xattr(name, "system.posix_acl_access") == acl);
        CHECK(made.mode(name) == 0640);
    }
    CHECK(made.xattr("d", "system.posix_acl_default") == acl);
    CHECK_FALSE(made.xattr("d/plain", "system.posix_acl_access"));
    CHECK_FALSE(made.xattr("d/e", "system.posix_acl_default"));
}

TEST_CASE("a default ACL of a file, and an xattr of a fifo or link, are skipped, and that is recorded")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.unpack(tar_writer().file("a", "", {.xattrs = {{"system.posix_acl_default", "x"}}}))
              .skipped_xattrs);
    CHECK(made.unpack(tar_writer().fifo("p", {.xattrs = {{"user.a", "x"}}})).skipped_xattrs);
    CHECK(made.unpack(tar_writer().symlink("l", "a", {.xattrs = {{"user.a", "x"}}})).skipped_xattrs);
    CHECK_FALSE(made.unpack(tar_writer().symlink("m", "a")).skipped_xattrs);
}

TEST_CASE("a directory that was removed is not recorded as one with whiteouts")
{
    NEEDS_ROOT();
    layer made;
    const auto notes =
        made.unpack(tar_writer().whiteout("d/a").whiteout("e/a").symlink("d", "/etc").file("e", ""));
    CHECK(notes.whiteout_directories.empty());
    CHECK(notes.implied.empty());
}

TEST_CASE("a path that is too long after links are followed is refused")
{
    NEEDS_ROOT();
    layer made;
    std::string deep, more;
    for (int i = 0; i < 15; ++i)
        deep += std::string(250, 'd') + "/";
    for (int i = 0; i < 2; ++i)
        more += std::string(200, 'm') + "/";
    CHECK(made.failure(tar_writer().directory(deep).symlink("l", deep).directory("l/" + more)) ==
          errc::path_too_long);
    layer other;
    CHECK(other.failure(tar_writer().directory(deep).symlink("l", deep).file("l/" + more + "f", "")) ==
          errc::path_too_long);
}

TEST_CASE("a path of the largest allowed length has its attributes")
{
    NEEDS_ROOT();
    layer made;
    std::string path;
    for (int i = 0; i < 15; ++i)
        path += std::string(255, 'd') + "/";
    path += std::string(255, 'd');
    REQUIRE(path.size() == 4095);
    made.unpack(tar_writer().directory(path, {.mode = 0711, .mtime = 5}));
    // Too long for one call with an absolute path.
    const unique_fd half(::open((made / path.substr(0, 2047)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat found{};
    REQUIRE(::fstatat(half.get(), path.substr(2048).c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK((found.st_mode & 07777) == 0711);
    CHECK(found.st_mtim.tv_sec == 5);
}

TEST_CASE("an entry below a file of the layer, or below a dangling link, is refused")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.failure(tar_writer().file("a", "").file("a/b", "")) == errc::entry_escapes_layer);
    CHECK(made.failure(tar_writer().symlink("l", "nowhere").file("l/b", "")) == errc::entry_escapes_layer);
    CHECK(made.failure(tar_writer().symlink("m", "m").file("m/b", "")) == errc::entry_escapes_layer);
    CHECK(made.failure(tar_writer().symlink("n", "a").whiteout("n/b")) == errc::entry_escapes_layer);
}

TEST_CASE("an entry below a whiteout is refused, and leftovers of aufs are not unpacked")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.failure(tar_writer().file(".wh.d/a", "")) == errc::invalid_whiteout);
    CHECK(made.failure(tar_writer().file("d/.wh../a", "")) == errc::invalid_whiteout);
    made.unpack(
        tar_writer().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").file("d/.wh..wh.orph/e/f", ""));
    CHECK(made.type(".wh..wh.plnk") == '-');
    CHECK(made.type("d") == '-');
}

TEST_CASE("a hard link cannot replace the directory that contains its target")
{
    NEEDS_ROOT();
    layer made;
    CHECK(made.failure(tar_writer().file("d/a", "").hard_link("d", "d/a")) == errc::missing_hard_link_target);
}

TEST_CASE("an xattr is stored whole, or is an error if there is no room for it")
{
    NEEDS_ROOT();
    layer made;
    const std::string value(60000, 'v');
    const auto failure = made.failure(tar_writer().file("a", "", {.xattrs = {{"user.a", value}}}));
    const auto stored = ::lgetxattr((made / "a").c_str(), "user.a", nullptr, 0);
    if (failure.failed())
        CHECK(failure == errc::xattr_too_large); // ext4 stores at most one block
    else
        CHECK(stored == static_cast<ssize_t>(value.size()));
}

} // namespace
