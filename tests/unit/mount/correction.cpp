#include <overmount/mount/correction.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace fs = std::filesystem;
using overmount::detail::correction;
using overmount::detail::stacked_layer;
using overmount::unique_fd;
using overmount::test::scratch_directory;

namespace {

using strings = std::vector<std::string>;

// Layers of plain directories, topmost first.
struct layers
{
    // Adds a layer with these directories, of which `implied` have no tar entry. A name that ends with a dot is a file.
    stacked_layer& add(const strings& names, const strings& implied = {}, bool implied_root = false)
    {
        const auto top = scratch / std::to_string(stack.size());
        fs::create_directory(top);
        overmount::diff_record record;
        record.implied = implied;
        record.implied_root = implied_root;
        for (const std::string& name : names) {
            if (name.ends_with('.'))
                std::ofstream(top / name.substr(0, name.size() - 1)) << "file";
            else
                fs::create_directory(top / name);
        }
        stack.push_back({{std::make_shared<unique_fd>(::open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), {}},
                         record});
        return stack.back();
    }
    [[nodiscard]] fs::path path(std::size_t layer, const std::string& name) const
    {
        return scratch / std::to_string(layer) / name;
    }

    // The content of the correction.
    std::set<std::string> made()
    {
        correction wanted(stack);
        fs::remove_all(scratch / "correction");
        fs::create_directory(scratch / "correction");
        std::set<std::string> out;
        if (!wanted.needed())
            return out;
        const unique_fd target(::open((scratch / "correction").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        wanted.write(target.get());
        out.insert("");
        for (const auto& entry : fs::recursive_directory_iterator(scratch / "correction"))
            out.insert(fs::relative(entry.path(), scratch / "correction").string());
        return out;
    }

    scratch_directory scratch;
    std::vector<stacked_layer> stack;
};

struct stat status_of(const fs::path& path)
{
    struct stat out;
    if (::lstat(path.c_str(), &out) != 0)
        throw std::runtime_error("no " + path.string());
    return out;
}

using set = std::set<std::string>;

} // namespace

TEST_CASE("layers whose directories all have entries need no correction")
{
    layers some;
    some.add({"a", "a/b"});
    some.add({"a", "a/c"});
    CHECK(some.made().empty());
}

TEST_CASE("which layers have a visible directory does not depend on earlier queries")
{
    layers some;
    some.add({"a", "a/b", "ab"});
    some.add({"a", "a/b.", "ab", "ab/c"});
    some.add({"a", "a/b", "a/b/c", "ab", "ab/c"});
    overmount::detail::shown_layers kept(some.stack);
    const strings questions{"a/b/c", "a", "", "ab/c", "a/b", "a/b/c", "nothing/there", "ab", "a/b", "ab/c"};
    for (const std::string& path : questions)
        CHECK(kept.of(path) == overmount::detail::shown_layers(some.stack).of(path));
    using indices = std::vector<std::size_t>;
    CHECK(kept.of("") == indices{0, 1, 2});
    CHECK(kept.of("ab/c") == indices{1, 2});
    CHECK(kept.of("a/b") == indices{0}); // the file hides the layers below
    CHECK(kept.of("a/b/c").empty());
}

TEST_CASE("queries for many children of one directory have the same results, with and without listing it")
{
    layers some;
    strings few{"d", "d/3", "d/7", "d/7/x", "d/9"}, many{"d"}, questions;
    for (int number = 0; number < 300; ++number) // too many to list
        many.push_back("d/" + std::to_string(number));
    some.add(few);
    some.add(many);
    some.add({"d", "d/7", "d/8"});
    for (int number = 0; number < 12; ++number)
        questions.push_back("d/" + std::to_string(number));
    overmount::detail::shown_layers kept(some.stack);
    for (const std::string& path : questions)
        CHECK(kept.of(path) == overmount::detail::shown_layers(some.stack).of(path));
    using indices = std::vector<std::size_t>;
    CHECK(kept.of("d/7") == indices{0, 1, 2});
    CHECK(kept.of("d/8") == indices{1, 2});
    CHECK(kept.of("d/9") == indices{0, 1});
    CHECK(kept.of("d/7/x") == indices{0});
    CHECK(kept.of("d/300").empty());
}

TEST_CASE("an implied directory has the attributes of the nearest layer with an entry for it")
{
    layers some;
    some.add({"a", "a/b"}, {"a", "a/b"});
    some.add({"a", "a/b"}, {"a"});
    some.add({"a", "a/b"});
    REQUIRE(::chmod(some.path(1, "a/b").c_str(), 0710) == 0);
    REQUIRE(::chmod(some.path(2, "a").c_str(), 01777) == 0);
    REQUIRE(::setxattr(some.path(2, "a").c_str(), "user.note", "x", 1, 0) == 0);
    const timespec times[2]{{1, 2}, {3, 4}};
    REQUIRE(::utimensat(AT_FDCWD, some.path(2, "a").c_str(), times, 0) == 0);
    CHECK(some.made() == set{"", "a", "a/b"});
    const auto a = status_of(some.scratch / "correction/a");
    CHECK((a.st_mode & 07777u) == 01777u);
    CHECK(a.st_mtim.tv_sec == 3);
    CHECK(a.st_mtim.tv_nsec == 4);
    char value = 0;
    CHECK(::getxattr((some.scratch / "correction/a").c_str(), "user.note", &value, 1) == 1);
    CHECK((status_of(some.scratch / "correction/a/b").st_mode & 07777u) == 0710u);
}

TEST_CASE("an implied directory that no layer below has is not corrected")
{
    layers some;
    some.add({"a", "b"}, {"a", "b"});
    SECTION("the path does not exist") { some.add({}); }
    SECTION("the path is a file") { some.add({"a.", "b."}); }
    SECTION("the directory is implied there as well") { some.add({"a"}, {"a"}); }
    CHECK(some.made().empty());
}

TEST_CASE("an implied directory below one with its own entry is not corrected")
{
    layers some;
    some.add({"a"});
    some.add({"a"}, {"a"});
    some.add({"a"});
    CHECK(some.made().empty());
}

TEST_CASE("an implied directory in a lower layer is corrected if no layer above has it")
{
    layers some;
    some.add({"x"});
    some.add({"a"}, {"a"});
    some.add({"a"});
    CHECK(some.made() == set{"", "a"});
}

TEST_CASE("a file in a layer above hides an implied directory")
{
    layers some;
    some.add({"a."});
    some.add({"a"}, {"a"});
    some.add({"a"});
    CHECK(some.made().empty());
}

TEST_CASE("an implied root has the attributes of the nearest root with an entry")
{
    layers some;
    some.add({}, {}, true);
    some.add({}, {}, true);
    some.add({});
    REQUIRE(::chmod((some.scratch / "2").c_str(), 0705) == 0);
    CHECK(some.made() == set{""});
    CHECK((status_of(some.scratch / "correction").st_mode & 07777u) == 0705u);
}

TEST_CASE("roots that are all implied need no correction")
{
    layers some;
    some.add({}, {}, true);
    some.add({}, {}, true);
    CHECK(some.made().empty());
}

TEST_CASE("a directory with whiteouts is corrected if it is in one layer only")
{
    layers some;
    some.add({"d", "e"}).record.whiteout_directories = {"d", "e", ""};
    some.add({"d"});
    CHECK(some.made() == set{"", "e"});
}

TEST_CASE("an opaque directory hides the files of lower layers, but still gets their attributes")
{
    if (::geteuid() != 0)
        OVERMOUNT_SKIP("setting trusted. attributes needs root");
    layers some;
    some.add({"a", "a/b"}, {"a", "a/b"});
    some.add({"a"}, {"a"});
    some.add({"a", "a/b"});
    CHECK(some.made() == set{"", "a", "a/b"});
    REQUIRE(::setxattr(some.path(1, "a").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
    CHECK(some.made() == set{"", "a"});
}

TEST_CASE("overlayfs' own xattrs are not copied")
{
    if (::geteuid() != 0)
        OVERMOUNT_SKIP("setting trusted. attributes needs root");
    layers some;
    some.add({"a"}, {"a"});
    some.add({"a"});
    REQUIRE(::setxattr(some.path(1, "a").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
    CHECK(some.made() == set{"", "a"});
    CHECK(::getxattr((some.scratch / "correction/a").c_str(), "trusted.overlay.opaque", nullptr, 0) < 0);
}
