// A commit makes a layer of what was written in a mount, and a mount of that layer shows the same.
#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/may_mount.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tree.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace fs = std::filesystem;
namespace asio = boost::asio;
using overmount::test::may_mount;
using ::test::get;

using overmount::commit_options;
using overmount::errc;
using overmount::import_options;
using overmount::mount_options;
using overmount::oci_layout;
using overmount::repository_options;
using overmount::test::image_source;
using overmount::test::list_tree;
using overmount::test::mounts_below;
using overmount::test::oci_layout_writer;
using overmount::test::run_quietly;
using overmount::test::scratch_directory;
using overmount::test::tar_writer;
using overmount::test::tree_difference;

namespace {

using strings = std::vector<std::string>;

// A repository with an image of these layers.
struct stored
{
    explicit stored(const strings& tars)
        : repository(get(overmount::repository::open(scratch / "repo", repository_options().workers(2)))),
          image(import_layers(tars))
    {}

    [[nodiscard]] overmount::image import_layers(const strings& tars) const
    {
        image_source source{.tags = {"example.org/test:1"}};
        for (const std::string& tar : tars)
            source.layers.push_back({tar});
        oci_layout_writer writer;
        writer.add(source);
        writer.finish().write_directory(scratch / "source");
        oci_layout layout((scratch / "source").string());
        return get(repository.import_image(layout, import_options().wanted({"linux", "amd64"})));
    }
    [[nodiscard]] overmount::mount mount_writable() const { return get(image.mount(mount_options().writable(true))); }
    // The listing of a mount of the image.
    [[nodiscard]] static std::string shown(const overmount::image& of)
    {
        overmount::mount mounted = get(of.mount());
        std::string out = list_tree(mounted.target());
        get(mounted.unmount());
        return out;
    }
    // The paths of the topmost layer's tar.
    [[nodiscard]] strings top_entries(const overmount::image& of) const
    {
        strings out;
        const auto asset = of.layers().front().asset();
        auto visit = [&out](const overmount::tar::entry& entry) { out.push_back(entry.path); };
        get(asset.list(visit));
        return out;
    }

    scratch_directory scratch;
    overmount::repository repository;
    overmount::image image;
};

strings usual_layers()
{
    return {tar_writer()
                .directory("d")
                .file("d/one", "one")
                .file("d/two", "two")
                .directory("full")
                .file("full/a", "a")
                .file("file", "text", {.mode = 0640, .uid = 3, .gid = 4})
                .finish(),
            tar_writer().file("d/implied/three", "three").whiteout("d/one").file("other", "other").finish()};
}

void write(const fs::path& path, const std::string& content)
{
    std::ofstream out(path, std::ios::binary);
    out << content;
    if (!out.flush())
        throw std::runtime_error("cannot write " + path.string());
}

} // namespace

TEST_CASE("a commit makes what was written in a mount the topmost layer of a new image")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const stored made(usual_layers());
    overmount::mount mount = made.mount_writable();
    const fs::path top = mount.target();
    write(top / "new", "new");
    write(top / "d/two", "changed");
    fs::remove(top / "file");
    fs::remove_all(top / "full");
    fs::create_directory(top / "full");
    write(top / "full/b", "b");
    const std::string before = list_tree(top);

    const overmount::image image = get(mount.commit(commit_options().tag("example.org/made").message("by hand").created_by("a test")));
    CHECK(list_tree(top) == before);
    get(mount.unmount());
    CHECK(made.top_entries(image) ==
          strings{"./", ".wh.file", "d/", "d/two", "full/", "full/.wh..wh..opq", "full/b", "new"});
    CHECK(tree_difference(before, stored::shown(image)) == "");
    CHECK(image.layers().size() == 3);
    CHECK(image.layers()[1] == made.image.layers()[0]);
    CHECK(made.repository.tag("example.org/made").image == image.id());
    REQUIRE(image.config().history().size() == made.image.config().history().size() + 1);
    CHECK(image.config().history().back().comment == "by hand");
    CHECK(image.config().history().back().created_by == "a test");
    CHECK(!image.config().history().back().empty_layer);
    CHECK(made.repository.find_image("example.org/test:1").id() == made.image.id());
}

TEST_CASE("a commit without changes makes no layer, and the history says so")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const stored made(usual_layers());
    overmount::mount mount = made.mount_writable();
    CHECK(fs::exists(fs::path(mount.target()) / "d/two")); // reading is not writing
    const overmount::image image = get(mount.commit(commit_options().tag("same")));
    CHECK(image.id() != made.image.id());
    CHECK(image.layers() == made.image.layers());
    CHECK(image.config().history().back().empty_layer);
    CHECK(made.repository.tag("same").image == image.id());
    get(mount.unmount());
}

TEST_CASE("an image without layers can be the base of a commit")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const stored made({});
    overmount::mount mount = made.mount_writable();
    CHECK(get(mount.commit()).layers().empty());
    write(fs::path(mount.target()) / "first", "1");
    const std::string before = list_tree(mount.target());
    const overmount::image image = get(mount.commit());
    get(mount.unmount());
    CHECK(image.layers().size() == 1);
    CHECK(tree_difference(before, stored::shown(image)) == "");
}

TEST_CASE("equal changes at different times make equal images if the creation time is given")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const stored made(usual_layers());
    std::set<std::string> ids;
    for (int round = 0; round < 2; ++round) {
        overmount::mount mount = made.mount_writable();
        const fs::path top = mount.target();
        for (const char* name : {"b", "a", "c"})
            write(top / (round == 0 ? name : std::string(1, static_cast<char>('a' + 'c' - *name))), "same");
        fs::remove(top / "file");
        ids.insert(get(mount.commit(commit_options().source_date_epoch(1'000'000'000))).id().string());
        get(mount.unmount());
    }
    CHECK(ids.size() == 1);
    CHECK(made.repository.find_image(*ids.begin()).config().created() == "2001-09-09T01:46:40Z");
}

TEST_CASE("a commit can change the config")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const stored made(usual_layers());
    overmount::mount mount = made.mount_writable();
    write(fs::path(mount.target()) / "new", "new");
    commit_options options;
    options.edit([](overmount::image_config_edit& config) { config.command({"/new"}); });
    CHECK(get(mount.commit(options)).config().command() == strings{"/new"});
    get(mount.unmount());
}

TEST_CASE("a commit that cannot be made is refused, and leaves nothing")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const stored made(usual_layers());
    const auto images = made.repository.images().size();
    const auto layers = made.repository.layers();
    const auto refused = [&](const overmount::mount& mount, commit_options options = commit_options()) {
        try {
            static_cast<void>(get(mount.commit(std::move(options))));
        } catch (const overmount::error& failure) {
            CHECK(made.repository.images().size() == images);
            CHECK(made.repository.layers() == layers);
            for (const char* part : {"tmp", "claims", "leases"})
                CHECK(fs::is_empty(made.repository.base() / part));
            return failure;
        }
        throw std::runtime_error("it was committed");
    };
    SECTION("a read-only mount")
    {
        overmount::mount mount = get(made.image.mount());
        CHECK(refused(mount).code() == errc::mount_read_only);
        get(mount.unmount());
    }
    SECTION("a name that no layer can hold")
    {
        overmount::mount mount = made.mount_writable();
        write(fs::path(mount.target()) / "d/.wh.x", "x");
        const auto failure = refused(mount);
        CHECK(failure.code() == errc::invalid_whiteout);
        CHECK(failure.entry() == "d/.wh.x");
        get(mount.unmount());
    }
    SECTION("an invalid tag")
    {
        overmount::mount mount = made.mount_writable();
        write(fs::path(mount.target()) / "new", "new");
        CHECK(refused(mount, commit_options().tag("Not A Name")).code() == errc::invalid_reference);
        get(mount.unmount());
    }
    SECTION("an invalid config")
    {
        overmount::mount mount = made.mount_writable();
        write(fs::path(mount.target()) / "new", "new");
        commit_options options;
        options.edit([](overmount::image_config_edit& config) { config.created("yesterday"); });
        CHECK(refused(mount, options).code() == errc::invalid_config);
        get(mount.unmount());
    }
    SECTION("a mount that the object no longer owns")
    {
        overmount::mount mount = made.mount_writable();
        const auto record = made.repository.mounts().front();
        mount.keep();
        CHECK(refused(mount).code() == errc::mount_not_found);
        get(made.repository.unmount(record));
    }
    SECTION("a mount that is removed while the tar is made")
    {
        overmount::mount mount = made.mount_writable();
        write(fs::path(mount.target()) / "new", "new");
        const auto record = made.repository.mounts().front();
        mount.keep();
        commit_options options;
        options.edit([&](overmount::image_config_edit&) { get(made.repository.unmount(record)); });
        try {
            static_cast<void>(get(made.repository.commit(record, options)));
            FAIL("it was committed");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::mount_not_found);
        }
        CHECK(made.repository.images().size() == images);
        CHECK(made.repository.layers() == layers);
    }
    CHECK(mounts_below(made.scratch.path()).empty());
}

namespace {

// Makes random changes, of all kinds that programs make.
class changes
{
public:
    changes(fs::path top, std::mt19937_64& random) : top_(std::move(top)), random_(random) {}

    void make()
    {
        switch (pick(22)) {
        case 0: case 1: case 2:
            put(directory() / name());
            break;
        case 3: case 4:
            change_file([&](const fs::path& path) { write(path, content()); });
            break;
        case 5:
            change_file([&](const fs::path& path) { std::ofstream(path, std::ios::app) << "more"; });
            break;
        case 6: case 7:
            change_any([&](const fs::path& path) { fs::remove_all(path); });
            break;
        case 8: case 9:
            ::mkdir((directory() / name()).c_str(), 0750);
            break;
        case 10: // opaque
            change_directory([&](const fs::path& path) {
                fs::remove_all(path);
                fs::create_directory(path);
                write(path / name(), content());
            });
            break;
        case 11: // another type at the same name
            change_any([&](const fs::path& path) {
                const bool directory = fs::is_directory(fs::symlink_status(path));
                fs::remove_all(path);
                directory ? write(path, content()) : static_cast<void>(fs::create_directory(path));
            });
            break;
        case 12: case 13: // a directory of the layers below cannot be renamed; mv(1) copies it
            change_any([&](const fs::path& path) {
                const fs::path to = directory() / name();
                if (::rename(path.c_str(), to.c_str()) != 0 && errno == EXDEV)
                    run_quietly({"mv", "-T", path.c_str(), to.c_str()});
            });
            break;
        case 14:
            change_file([&](const fs::path& path) { static_cast<void>(::link(path.c_str(), (directory() / name()).c_str())); });
            break;
        case 15:
            static_cast<void>(::symlink(name().c_str(), (directory() / name()).c_str()));
            break;
        case 16:
            static_cast<void>(::mknod((directory() / name()).c_str(), pick(2) == 0 ? S_IFIFO | 0600 : S_IFCHR | 0600,
                                      makedev(1, 3)));
            break;
        case 17:
            change_any([&](const fs::path& path) {
                if (!fs::is_symlink(fs::symlink_status(path)))
                    static_cast<void>(::chmod(path.c_str(), static_cast<mode_t>(0400 + pick(07400))));
            });
            break;
        case 18:
            change_any([&](const fs::path& path) {
                static_cast<void>(::lchown(path.c_str(), static_cast<uid_t>(pick(3'000'000)), static_cast<gid_t>(pick(100))));
            });
            break;
        case 19:
            change_any([&](const fs::path& path) {
                const timespec times[2] = {{0, UTIME_OMIT},
                                           {static_cast<time_t>(pick(4'000'000'000)) - 1'000'000'000, static_cast<long>(pick(1'000'000'000))}};
                static_cast<void>(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW));
            });
            break;
        case 20:
            change_file([&](const fs::path& path) {
                const std::string value = content().substr(0, 200);
                static_cast<void>(::setxattr(path.c_str(), "user.note", value.data(), value.size(), 0));
                if (pick(2) == 0) // cap_net_raw, version 2
                    static_cast<void>(::setxattr(path.c_str(), "security.capability",
                                                 "\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
            });
            break;
        default:
            change_directory([&](const fs::path& path) {
                // u::rwx, u:7:rw-, g::r-x, mask rwx, o::---
                const std::string acl("\2\0\0\0\1\0\7\0\xff\xff\xff\xff\2\0\6\0\7\0\0\0\4\0\5\0\xff\xff\xff\xff"
                                      "\x10\0\7\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff", 44);
                const char* const key = pick(2) == 0 ? "system.posix_acl_access" : "system.posix_acl_default";
                static_cast<void>(::setxattr(path.c_str(), key, acl.data(), acl.size(), 0));
            });
        }
    }

private:
    using paths = std::vector<fs::path>;

    std::uint64_t pick(std::uint64_t below) { return random_() % below; }
    std::string name()
    {
        static const strings names{"a", "b", "c", "d", "e", "f", "-", "\xff\xfe", "two words", "new\nline", std::string(255, 'n')};
        return names[pick(names.size())];
    }
    // Unless the path has something other than a file.
    void put(const fs::path& path)
    {
        const fs::file_status found = fs::symlink_status(path);
        if (!fs::exists(found) || fs::is_regular_file(found))
            write(path, content());
    }
    std::string content() { return std::string(pick(2000), static_cast<char>('a' + pick(26))); }

    template <class Predicate>
    paths all(Predicate wanted)
    {
        paths out;
        for (const auto& entry : fs::recursive_directory_iterator(top_))
            if (wanted(entry))
                out.push_back(entry.path());
        std::ranges::sort(out);
        return out;
    }
    template <class Predicate, class Function>
    void change(Predicate wanted, Function function)
    {
        if (const paths found = all(wanted); !found.empty())
            function(found[pick(found.size())]);
    }
    template <class Function>
    void change_any(Function function)
    {
        change([](const fs::directory_entry&) { return true; }, function);
    }
    template <class Function>
    void change_file(Function function)
    {
        change([](const fs::directory_entry& entry) { return !entry.is_symlink() && entry.is_regular_file(); }, function);
    }
    template <class Function>
    void change_directory(Function function)
    {
        change([](const fs::directory_entry& entry) { return !entry.is_symlink() && entry.is_directory(); }, function);
    }
    fs::path directory()
    {
        paths found = all([](const fs::directory_entry& entry) { return !entry.is_symlink() && entry.is_directory(); });
        found.push_back(top_);
        return found[pick(found.size())];
    }

    fs::path top_;
    std::mt19937_64& random_;
};

} // namespace

TEST_CASE("the layer of a commit shows the same as the mount after random changes, for several commits in a row")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const char* given = std::getenv("OVERMOUNT_SEED");
    const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
    const char* asked = std::getenv("OVERMOUNT_ROUNDS");
    const int rounds = asked != nullptr ? std::atoi(asked) : 12;
    std::printf("OVERMOUNT_SEED=%llu\n", static_cast<unsigned long long>(seed));
    for (int round = 0; round < rounds; ++round) {
        std::mt19937_64 random(seed + static_cast<std::uint64_t>(round));
        CAPTURE(seed, round);
        const stored made(usual_layers());
        overmount::image image = made.image;
        for (int depth = 0; depth < 4; ++depth) {
            CAPTURE(depth);
            overmount::mount mount = get(image.mount(mount_options().writable(true)));
            changes doing(mount.target(), random);
            for (auto count = random() % 20; count > 0; --count)
                doing.make();
            const std::string before = list_tree(mount.target());
            image = get(mount.commit());
            get(mount.unmount());
            REQUIRE(tree_difference(before, stored::shown(image)) == "");
        }
    }
}
