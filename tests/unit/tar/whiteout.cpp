#include <overmount/tar/whiteout.hpp>

#include "support/catch.hpp"

#include <string>

namespace {

using overmount::tar::whiteout;
using overmount::tar::whiteout_kind;

TEST_CASE("a name without the prefix is no whiteout")
{
    for (const char* name : {"", "a", ".wh", "wh.a", ".WH.a", "a.wh.b", ".whx"})
        CHECK(whiteout::of(name).kind == whiteout_kind::none);
}

TEST_CASE("a whiteout names what it deletes")
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

TEST_CASE("names that aufs keeps for itself are left over")
{
    for (const char* name : {".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"})
        CHECK(whiteout::of(name).kind == whiteout_kind::leftover);
}

TEST_CASE("a whiteout of nothing, of its directory or of the one above is malformed")
{
    for (const char* name : {".wh.", ".wh..", ".wh..."})
        CHECK(whiteout::of(name).kind == whiteout_kind::malformed);
}

} // namespace
