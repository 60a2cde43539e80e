#include <overmount/storage/tree_size.hpp>

#include <overmount/posix/fs.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>
#include <set>
#include <string>

namespace fs = std::filesystem;
using overmount::detail::open_directory;
using overmount::detail::remove_tree;
using overmount::detail::tree_size;
using overmount::unique_fd;
using overmount::test::scratch_directory;

namespace {

struct tree
{
    scratch_directory scratch;
    unique_fd directory = open_directory(AT_FDCWD, scratch.path().native());

    tree()
    {
        fs::create_directories(scratch / "top/a/b/c");
        for (const char* name : {"top/one", "top/a/two", "top/a/b/c/three"})
            std::ofstream(scratch / name) << std::string(20000, 'x');
        fs::create_hard_link(scratch / "top/one", scratch / "top/a/b/again");
        fs::create_symlink("nowhere", scratch / "top/link");
    }
    [[nodiscard]] std::uint64_t blocks() const
    {
        std::uint64_t out = 0;
        std::set<ino_t> seen;
        const auto add = [&](const fs::path& path) {
            struct stat status;
            REQUIRE(::lstat(path.c_str(), &status) == 0);
            if (seen.insert(status.st_ino).second)
                out += static_cast<std::uint64_t>(status.st_blocks) * 512;
        };
        add(scratch / "top");
        for (const auto& entry : fs::recursive_directory_iterator(scratch / "top"))
            add(entry.path());
        return out;
    }
};

} // namespace

TEST_CASE("the size of a tree is the size of its blocks, and counts a file with several names once")
{
    const tree all;
    CHECK(all.blocks() >= 60000);
    CHECK(tree_size(all.directory.get(), "top", [] {}) == all.blocks());
    CHECK(tree_size(all.directory.get(), "top/one", [] {}) >= 20000);
    CHECK(tree_size(all.directory.get(), "missing", [] {}) == 0);
}

TEST_CASE("removing a tree frees its size, except for files that have names elsewhere")
{
    const tree all;
    const std::uint64_t size = all.blocks(), one = tree_size(all.directory.get(), "top/one", [] {});
    std::uint64_t freed = 0;
    const bool kept = GENERATE(false, true);
    if (kept)
        fs::create_hard_link(all.scratch / "top/one", all.scratch / "kept");
    remove_tree(all.directory.get(), "top", all.directory.get(), {}, &freed);
    CHECK_FALSE(fs::exists(all.scratch / "top"));
    // A directory may have shrunk meanwhile.
    CHECK(freed <= size - (kept ? one : 0));
    CHECK(freed >= size - (kept ? one : 0) - 4 * 4096);
}
