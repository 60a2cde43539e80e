#include <overmount/mount/upper_reader.hpp>

#include <overmount/tar/entry_walk.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <thread>

namespace fs = std::filesystem;
namespace detail = overmount::detail;
namespace tar = overmount::tar;
using overmount::errc;
using overmount::upper_options;
using overmount::upper_reader;
using overmount::unique_fd;
using overmount::test::scratch_directory;

namespace {

using strings = std::vector<std::string>;

unique_fd open(const fs::path& directory)
{
    return unique_fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// An upper directory as the kernel writes it.
struct upper
{
    void file(const std::string& name, const std::string& content = "x") const
    {
        std::ofstream(scratch / name, std::ios::binary) << content;
    }
    void directory(const std::string& name, const char* opaque = nullptr) const
    {
        fs::create_directory(scratch / name);
        if (opaque != nullptr)
            mark(name, "trusted.overlay.opaque", opaque);
    }
    void whiteout(const std::string& name) const
    {
        REQUIRE(::mknod((scratch / name).c_str(), S_IFCHR, makedev(0, 0)) == 0);
    }
    void mark(const std::string& name, const char* key, const std::string& value) const
    {
        REQUIRE(::lsetxattr((scratch / name).c_str(), key, value.data(), value.size(), 0) == 0);
    }

    [[nodiscard]] upper_reader reader(upper_options options = upper_options()) const
    {
        return upper_reader(open(scratch.path()), std::move(options));
    }
    [[nodiscard]] std::vector<tar::entry> entries(upper_options options = upper_options()) const
    {
        detail::entry_walk<upper_reader> walk(reader(std::move(options)), overmount::limits());
        std::vector<tar::entry> out;
        while (walk.next())
            out.push_back(walk.entry());
        return out;
    }
    [[nodiscard]] strings paths(upper_options options = upper_options()) const
    {
        strings out;
        for (const tar::entry& one : entries(std::move(options)))
            out.push_back(one.path);
        return out;
    }
    [[nodiscard]] std::string bytes(std::size_t piece = 4096, upper_options options = upper_options()) const
    {
        upper_reader from = reader(std::move(options));
        std::string out, buffer(piece, '\0');
        while (const std::size_t count = from.read(std::as_writable_bytes(std::span(buffer))))
            out.append(buffer, 0, count);
        CHECK(from.read(std::as_writable_bytes(std::span(buffer))) == 0);
        return out;
    }
    // The error of reading to the end.
    [[nodiscard]] overmount::error failure(upper_options options = upper_options()) const
    {
        try {
            static_cast<void>(bytes(4096, std::move(options)));
        } catch (const overmount::error& thrown) {
            return thrown;
        }
        throw std::runtime_error("it was read to its end");
    }

    scratch_directory scratch;
};

bool may_make_uppers()
{
    const scratch_directory scratch;
    return ::geteuid() == 0 && ::mknod((scratch / "w").c_str(), S_IFCHR, makedev(0, 0)) == 0 &&
           ::setxattr(scratch.path().c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0;
}

} // namespace

TEST_CASE("an upper directory is packed parents first, then whiteouts, sorted by the bytes of the names")
{
    if (!may_make_uppers())
        OVERMOUNT_SKIP("needs root and trusted xattrs");
    const upper made;
    made.directory("b");
    made.file("b/\xff");
    made.file("b/Z");
    made.whiteout("b/z");
    made.directory("b-");
    made.file("a");
    made.whiteout("zz");
    CHECK(made.paths() == strings{"./", ".wh.zz", "a", "b/", "b/.wh.z", "b/Z", "b/\xff", "b-/"});
}

TEST_CASE("an opaque directory gets a marker if the layers below have it, and no whiteouts")
{
    if (!may_make_uppers())
        OVERMOUNT_SKIP("needs root and trusted xattrs");
    const upper made;
    made.directory("d", "y");
    made.whiteout("d/gone");
    made.directory("d/e", "y");
    made.whiteout("d/e/gone");
    made.file("d/e/f");
    SECTION("by default they may have it")
    {
        CHECK(made.paths() == strings{"./", "d/", "d/.wh..wh..opq", "d/e/", "d/e/f"});
    }
    SECTION("they do not have it")
    {
        strings asked;
        CHECK(made.paths(upper_options().shown_below([&asked](const std::string& path) {
            asked.push_back(path);
            return false;
        })) == strings{"./", "d/", "d/e/", "d/e/f"});
        CHECK(asked == strings{"d"});
    }
    SECTION("the kernel ignores the xattr on the root")
    {
        made.mark("", "trusted.overlay.opaque", "y");
        made.whiteout("gone");
        CHECK(made.paths() == strings{"./", ".wh.gone", "d/", "d/.wh..wh..opq", "d/e/", "d/e/f"});
    }
}

TEST_CASE("whiteouts by xattr count only in a directory with opaque=x")
{
    if (!may_make_uppers())
        OVERMOUNT_SKIP("needs root and trusted xattrs");
    const upper made;
    made.directory("d", "x");
    made.file("d/gone", "");
    made.mark("d/gone", "trusted.overlay.whiteout", "");
    made.file("d/here", "");
    made.file("not", "");
    made.mark("not", "trusted.overlay.whiteout", "");
    CHECK(made.paths() == strings{"./", "d/", "d/.wh.gone", "d/here", "not"});
}

TEST_CASE("entries have the attributes of their files")
{
    if (!may_make_uppers())
        OVERMOUNT_SKIP("needs root and trusted xattrs");
    const upper made;
    made.file("a", std::string(700, 'a'));
    made.file("empty", "");
    REQUIRE(::chown((made.scratch / "a").c_str(), 4'000'000'000u, 70'000) == 0);
    REQUIRE(::chmod((made.scratch / "a").c_str(), 06751) == 0);
    made.mark("a", "user.note", std::string("a\0b", 3));
    made.mark("a", "trusted.overlay.origin", "private");
    made.mark("a", "trusted.other", "of the host");
    fs::create_symlink(std::string(200, 't'), made.scratch / "link");
    fs::create_hard_link(made.scratch / "a", made.scratch / "second");
    REQUIRE(::mkfifo((made.scratch / "fifo").c_str(), 0600) == 0);
    REQUIRE(::mknod((made.scratch / "device").c_str(), S_IFBLK | 0640, makedev(259, 1000)) == 0);
    const timespec times[2] = {{0, UTIME_OMIT}, {-3, 250'000'000}};
    REQUIRE(::utimensat(AT_FDCWD, (made.scratch / "a").c_str(), times, 0) == 0);

    std::map<std::string, tar::entry> found;
    for (const tar::entry& one : made.entries())
        found.emplace(one.path, one);
    CHECK(found.size() == 7);
    const tar::entry& a = found.at("a");
    CHECK(a.type == tar::entry_type::regular);
    CHECK(a.uid == 4'000'000'000u);
    CHECK(a.gid == 70'000);
    CHECK(a.mode == 06751);
    CHECK(a.size == 700);
    CHECK(a.mtime == tar::timestamp{-3, 250'000'000});
    CHECK(a.xattrs == std::vector<tar::xattr>{{"user.note", std::string("a\0b", 3)}});
    CHECK(found.at("empty").size == 0);
    CHECK(found.at("link").link_target == std::string(200, 't'));
    CHECK(found.at("second").type == tar::entry_type::hard_link);
    CHECK(found.at("second").link_target == "a");
    CHECK(found.at("fifo").type == tar::entry_type::fifo);
    CHECK(found.at("device").type == tar::entry_type::block_device);
    CHECK(found.at("device").device_major == 259);
    CHECK(found.at("device").device_minor == 1000);
}

TEST_CASE("whiteouts that share an inode are whiteouts, not hard links")
{
    if (!may_make_uppers())
        OVERMOUNT_SKIP("needs root and trusted xattrs");
    const upper made;
    made.whiteout("a");
    fs::create_hard_link(made.scratch / "a", made.scratch / "b");
    const auto found = made.entries();
    REQUIRE(found.size() == 3);
    CHECK(found[1].path == ".wh.a");
    CHECK(found[2].path == ".wh.b");
    CHECK(found[2].type == tar::entry_type::regular);
    CHECK(found[2].mtime == tar::timestamp());
}

TEST_CASE("a socket has no entry")
{
    const upper made;
    const unique_fd opened(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un at = {};
    at.sun_family = AF_UNIX;
    (made.scratch / "s").native().copy(at.sun_path, sizeof at.sun_path - 1);
    REQUIRE(::bind(opened.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    CHECK(made.paths() == strings{"./"});
}

TEST_CASE("the same upper directory gives the same bytes, for any buffer size")
{
    const upper made;
    made.directory("d");
    made.file("d/a", std::string(3000, 'a'));
    made.file("d/b", std::string(512, 'b'));
    const std::string whole = made.bytes();
    CHECK(whole.size() % 512 == 0);
    CHECK(made.bytes(1) == whole);
    CHECK(made.bytes(513) == whole);
}

TEST_CASE("times after the latest one are replaced by it")
{
    const upper made;
    made.file("new");
    made.file("old");
    const timespec times[2] = {{0, UTIME_OMIT}, {99, 999'999'999}};
    REQUIRE(::utimensat(AT_FDCWD, (made.scratch / "old").c_str(), times, 0) == 0);
    const auto found = made.entries(upper_options().latest(100));
    REQUIRE(found.size() == 3);
    CHECK(found[0].mtime == tar::timestamp{100, 0});
    CHECK(found[1].mtime == tar::timestamp{100, 0});
    CHECK(found[2].mtime == tar::timestamp{99, 999'999'999});
}

TEST_CASE("files of an upper directory that no layer can hold are refused by name")
{
    if (!may_make_uppers())
        OVERMOUNT_SKIP("needs root and trusted xattrs");
    const upper made;
    made.directory("d");
    SECTION("a name that would be a whiteout")
    {
        made.file("d/.wh.x");
        CHECK(made.failure().code() == errc::invalid_whiteout);
        CHECK(made.failure().entry() == "d/.wh.x");
    }
    SECTION("a renamed directory, whose content is in lower layers")
    {
        made.directory("d/to");
        made.mark("d/to", "trusted.overlay.redirect", "from");
        CHECK(made.failure().code() == errc::unsupported_entry_type);
        CHECK(made.failure().entry() == "d/to");
    }
    SECTION("a file whose content is in lower layers")
    {
        made.file("d/f", "");
        made.mark("d/f", "trusted.overlay.metacopy", "");
        CHECK(made.failure().code() == errc::unsupported_entry_type);
        CHECK(made.failure().entry() == "d/f");
    }
}

TEST_CASE("a process that may not read the overlay's xattrs gets an error, not a layer without them")
{
    if (!may_make_uppers())
        OVERMOUNT_SKIP("needs root and trusted xattrs");
    const upper made;
    made.directory("d", "y");
    std::optional<boost::system::error_code> code;
    std::thread([&] { // capabilities are a thread's own
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct data[2] = {};
        if (::syscall(SYS_capget, &header, data) != 0)
            return;
        data[0].effective &= ~(1u << CAP_SYS_ADMIN);
        if (::syscall(SYS_capset, &header, data) == 0)
            code = made.failure().code();
    }).join();
    REQUIRE(code);
    CHECK(*code == boost::system::error_code(EPERM, boost::system::system_category()));
    CHECK(made.paths() == strings{"./", "d/", "d/.wh..wh..opq"});
}

TEST_CASE("an upper directory has the limits of a layer")
{
    const upper made;
    made.directory("d");
    made.directory("d/e");
    made.file("d/e/f", "12345");
    overmount::limits bounds;
    SECTION("entries")
    {
        bounds.entries = 3;
        CHECK(made.failure(upper_options().bounds(bounds)).code() == errc::too_many_entries);
    }
    SECTION("depth")
    {
        bounds.path_depth = 2;
        CHECK(made.failure(upper_options().bounds(bounds)).code() == errc::path_too_deep);
    }
    SECTION("names in directories that are being read")
    {
        for (int i = 0; i < 5; ++i)
            made.file("z" + std::to_string(i));
        bounds.entries = 6;
        CHECK(made.failure(upper_options().bounds(bounds)).code() == errc::too_many_entries);
    }
    SECTION("paths of hard links")
    {
        fs::create_hard_link(made.scratch / "d/e/f", made.scratch / "d/e/g");
        bounds.directory_bytes = 4;
        CHECK(made.failure(upper_options().bounds(bounds)).code() == errc::too_many_entries);
    }
    SECTION("extended attributes")
    {
        made.mark("d/e/f", "user.note", std::string(100, 'x'));
        bounds.extension_bytes = 100;
        CHECK(made.failure(upper_options().bounds(bounds)).code() == errc::xattr_too_large);
        CHECK(made.failure(upper_options().bounds(bounds)).entry() == "d/e/f");
    }
    SECTION("bytes")
    {
        bounds.layer_bytes = 4;
        CHECK(made.failure(upper_options().bounds(bounds)).code() == errc::layer_too_large);
    }
}

TEST_CASE("a change while reading is detected and named")
{
    const upper made;
    made.directory("d");
    made.file("d/a", std::string(100'000, 'a'));
    upper_reader from = made.reader();
    std::vector<std::byte> buffer(4096);
    // Headers of the root, the directory and the file, and some of its data.
    for (int pieces = 0; pieces < 6; ++pieces)
        REQUIRE(from.read(buffer) > 0);
    const auto rest = [&]() -> overmount::error {
        try {
            while (from.read(buffer) != 0) {
            }
        } catch (const overmount::error& failure) {
            return failure;
        }
        throw std::runtime_error("nothing was noticed");
    };
    SECTION("a file that becomes shorter")
    {
        fs::resize_file(made.scratch / "d/a", 50'000);
        const auto failure = rest();
        CHECK(failure.code() == errc::upper_changed);
        CHECK(failure.entry() == "d/a");
    }
    SECTION("a file that becomes longer")
    {
        fs::resize_file(made.scratch / "d/a", 150'000);
        CHECK(rest().entry() == "d/a");
    }
    SECTION("a name that is added")
    {
        made.file("d/b");
        const auto failure = rest();
        CHECK(failure.code() == errc::upper_changed);
        CHECK(failure.entry() == "d/");
    }
    SECTION("a directory that is moved")
    {
        made.directory("other");
        fs::rename(made.scratch / "d", made.scratch / "other/d");
        CHECK(rest().code() == errc::upper_changed);
    }
}

TEST_CASE("an upper directory is unchanged if it is empty and has the attributes of the directory below")
{
    const scratch_directory scratch;
    for (const char* name : {"upper", "below"})
        fs::create_directory(scratch / name);
    const timespec times[2] = {{1, 0}, {1'000'000'000, 5}};
    const auto set_times = [&](const char* name) {
        REQUIRE(::utimensat(AT_FDCWD, (scratch / name).c_str(), times, 0) == 0);
    };
    set_times("upper");
    set_times("below");
    const auto unchanged = [&] {
        return overmount::is_unchanged(open(scratch / "upper").get(), open(scratch / "below").get());
    };
    CHECK(unchanged());
    SECTION("a file")
    {
        std::ofstream(scratch / "upper/f") << "x";
        set_times("upper");
        CHECK(!unchanged());
    }
    SECTION("the mode")
    {
        REQUIRE(::chmod((scratch / "upper").c_str(), 0700) == 0);
        CHECK(!unchanged());
    }
    SECTION("the time")
    {
        const timespec later[2] = {{1, 0}, {1'000'000'000, 6}};
        REQUIRE(::utimensat(AT_FDCWD, (scratch / "upper").c_str(), later, 0) == 0);
        CHECK(!unchanged());
    }
    SECTION("an xattr, except overlayfs' own")
    {
        if (!may_make_uppers())
            OVERMOUNT_SKIP("needs trusted xattrs");
        REQUIRE(::setxattr((scratch / "upper").c_str(), "trusted.overlay.impure", "y", 1, 0) == 0);
        CHECK(unchanged());
        REQUIRE(::setxattr((scratch / "upper").c_str(), "user.a", "y", 1, 0) == 0);
        CHECK(!unchanged());
    }
}
