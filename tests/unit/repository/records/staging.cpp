#include <overmount/repository/records/staging.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"

namespace fs = std::filesystem;
using overmount::diff_id;
using overmount::digest;
using overmount::detail::lock_kind;
using overmount::detail::store;
using overmount::test::file_names;
using overmount::test::names_in;
using overmount::test::opened_store;
using overmount::test::read_text;
using overmount::test::write_text;

TEST_CASE("a sweep removes the files of dead owners, and none of live ones")
{
    const opened_store one;
    const store other(one.base, "directory", false);
    auto mine = one.records.staging.make();
    write_text(one.base / "tmp" / mine.name() / "layer-0/rootfs/file", "text");
    const auto claim = one.records.claims.try_take(diff_id(digest::of("a")));
    for (const char* name : {"work-dead/lock", "work-dead/layer-0/rootfs/file", "work-without-lock/file", "record-dead",
                             "draft-dead/config.json", "mount-dead/record.json", "trash-dead/a/b/c", "erased-dead/rootfs/c",
                             "dead-work-other/c"})
        write_text(one.base / "tmp" / name, "");
    other.sweep();
    CHECK(names_in(one.base / "tmp") == file_names{mine.name()});
    CHECK(read_text(one.base / "tmp" / mine.name() / "layer-0/rootfs/file") == "text");
    CHECK(names_in(one.base / "claims").size() == 1);
    one.records.staging.remove(mine);
    CHECK(names_in(one.base / "tmp").empty());
}

TEST_CASE("a sweep during a publication keeps its drafts, and does not wait")
{
    const opened_store one;
    auto shows = one.records.lock(lock_kind::shared);
    REQUIRE(shows.try_take());
    write_text(one.base / "tmp/record-living", "{}");
    write_text(one.base / "tmp/trash-dead/file", "");
    const store other(one.base, "directory", false);
    other.sweep();
    CHECK(names_in(one.base / "tmp") == file_names{"record-living"});
    shows.release();
    other.sweep();
    CHECK(names_in(one.base / "tmp").empty());
}
