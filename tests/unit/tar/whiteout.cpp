#include <overmount/tar/whiteout.hpp>

#include "support/catch.hpp"

#include <string>

namespace {

using overmount::tar::whiteout;
using overmount::tar::whiteout_kind;

TEST_CASE("a name without the prefix is not a whiteout")
{
    for (const char* name : {"", "a", ".wh", "wh.a", ".WH.a", "a.wh.b", ".whx"})
        CHECK(whiteout::of(name).kind == whiteout_kind::none);
}

TEST_CASE("a whiteout has the name that it deletes")
{
    for (const char* name : {"a", "....", ".a", "..a", "wh.a", "\xff"}) {
        const std::string full = std::string(".wh.") + name;
        const auto found = whiteout::of(full);
        CHECK(found.kind == whiteout_kind::whiteout);
        CHECK(found.name == name);
    }
    CHECK(whiteout::of(".wh..wh.").kind == whiteout_kind::leftover);
    CHECK(whiteout::of(".wh..wh").name == ".wh");
}

TEST_CASE("only one name is the opaque marker")
{
    CHECK(whiteout::of(".wh..wh..opq").kind == whiteout_kind::opaque);
    CHECK(whiteout::of(".wh..opq").kind == whiteout_kind::whiteout);
    CHECK(whiteout::of(".wh..wh..opqa").kind == whiteout_kind::leftover);
}

TEST_CASE("reserved names of aufs are leftovers")
{
    for (const char* name : {".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"})
        CHECK(whiteout::of(name).kind == whiteout_kind::leftover);
}

TEST_CASE("a whiteout of an empty name, `.` or `..` is malformed")
{
    for (const char* name : {".wh.", ".wh..", ".wh..."})
        CHECK(whiteout::of(name).kind == whiteout_kind::malformed);
}

TEST_CASE("the last name of a path decides if all directories above are ordinary")
{
    for (const char* above : {"", "a/", "a/b.wh./c/"}) {
        INFO(above);
        const std::string to(above);
        CHECK(whiteout::of_path(to + "a").kind == whiteout_kind::none);
        const std::string deletes = to + ".wh.a";
        CHECK(whiteout::of_path(deletes).kind == whiteout_kind::whiteout);
        CHECK(whiteout::of_path(deletes).name == "a");
        CHECK(whiteout::of_path(to + ".wh..wh..opq").kind == whiteout_kind::opaque);
        CHECK(whiteout::of_path(to + ".wh..wh.plnk").kind == whiteout_kind::leftover);
        CHECK(whiteout::of_path(to + ".wh..").kind == whiteout_kind::malformed);
    }
    CHECK(whiteout::of_path("").kind == whiteout_kind::none);
}

TEST_CASE("everything below an opaque marker or aufs name is a leftover, below a whiteout malformed")
{
    for (const char* name : {"a", ".wh.a", ".wh..wh..opq", "a/b/c"}) {
        for (const char* above : {".wh..wh..opq", ".wh..wh.plnk", "a/.wh..wh..opq", "a/.wh..wh.plnk/b", ".wh..wh.plnk/.wh.a"})
            CHECK(whiteout::of_path(std::string(above) + "/" + name).kind == whiteout_kind::leftover);
        for (const char* above : {".wh.a", ".wh..", "a/.wh.a", "a/.wh.a/b", ".wh.a/.wh..wh..opq"})
            CHECK(whiteout::of_path(std::string(above) + "/" + name).kind == whiteout_kind::malformed);
    }
    // The last name is checked before the directories above it.
    CHECK(whiteout::of_path(".wh..wh.plnk/.wh.").kind == whiteout_kind::malformed);
    CHECK(whiteout::of_path(".wh.a/.wh..wh.plnk").kind == whiteout_kind::leftover);
}

} // namespace
