#include <overmount/tar/path.hpp>

#include "support/catch.hpp"

#include <string>

namespace {

using overmount::errc;
using overmount::limits;
namespace tar = overmount::tar;

overmount::error failure_of(const std::string& path, const limits& bounds = {})
{
    try {
        static_cast<void>(tar::normalise(path, bounds));
    } catch (const overmount::error& failure) {
        return failure;
    }
    FAIL("no error for " << path);
    throw 0;
}

TEST_CASE("redundant slashes and dots are removed from a path")
{
    const limits bounds;
    CHECK(tar::normalise("a/b", bounds) == "a/b");
    CHECK(tar::normalise("/a//b/", bounds) == "a/b");
    CHECK(tar::normalise("./a/./b/.", bounds) == "a/b");
    CHECK(tar::normalise("...", bounds) == "...");
    CHECK(tar::normalise("..a/b..", bounds) == "..a/b..");
    CHECK(tar::normalise("a\\b\n\xff", bounds) == "a\\b\n\xff");
}

TEST_CASE("the root is an empty path")
{
    for (const char* root : {"", ".", "/", "./", "//", "/./"})
        CHECK(tar::normalise(root, {}).empty());
}

TEST_CASE("a path with two dots or a NUL is refused")
{
    for (const std::string& path : {std::string(".."), std::string("../a"), std::string("a/.."),
                                    std::string("a/../b"), std::string("/.."), std::string("a\0b", 3)})
        CHECK(failure_of(path).code() == errc::entry_escapes_layer);
    CHECK(failure_of("a/../b").at() == overmount::stage::framing);
}

TEST_CASE("the length of a name is limited, with four bytes more for a whiteout")
{
    limits bounds;
    bounds.name_bytes = 10;
    CHECK(tar::normalise("d/0123456789", bounds) == "d/0123456789");
    CHECK(failure_of("d/0123456789a", bounds).code() == errc::path_too_long);
    CHECK(tar::normalise("d/.wh.0123456789", bounds) == "d/.wh.0123456789");
    CHECK(failure_of("d/.wh.0123456789a", bounds).code() == errc::path_too_long);
}

TEST_CASE("the length and depth of a path are limited after normalisation")
{
    limits bounds;
    bounds.path_bytes = 5;
    bounds.path_depth = 3;
    CHECK(tar::normalise("///a/./b/c//", bounds) == "a/b/c");
    CHECK(failure_of("aa/b/c", bounds).code() == errc::path_too_long);
    CHECK(failure_of("a/b/c/d", bounds).code() == errc::path_too_deep);
}

TEST_CASE("a path splits at its last slash")
{
    CHECK(tar::parent_of("a/b/c") == "a/b");
    CHECK(tar::name_of("a/b/c") == "c");
    CHECK(tar::parent_of("a").empty());
    CHECK(tar::name_of("a") == "a");
}

} // namespace
