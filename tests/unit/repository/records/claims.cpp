#include <overmount/repository/records/claims.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <thread>

using overmount::diff_id;
using overmount::digest;
using overmount::detail::store;
using overmount::test::names_in;
using overmount::test::opened_store;
using overmount::test::write_text;

namespace {

const diff_id diff(digest::of("a")), other_diff(digest::of("b"));

} // namespace

TEST_CASE("a claim has one holder at a time, also within one handle")
{
    const opened_store one;
    const store other(one.base, "directory", false);
    CHECK(one.records.claims.last_beat(diff) == 0);
    {
        auto claim = one.records.claims.try_take(diff);
        REQUIRE(claim);
        CHECK_FALSE(one.records.claims.try_take(diff));
        CHECK_FALSE(other.claims.try_take(diff));
        CHECK(other.claims.try_take(other_diff));
        const auto moved = std::move(*claim);
        CHECK_FALSE(other.claims.try_take(diff));
    }
    CHECK(names_in(one.base / "claims").empty());
    CHECK(other.claims.try_take(diff));
}

TEST_CASE("a claim that many threads take and release is never held by two")
{
    const opened_store one;
    constexpr int wanted = 2000;
    std::atomic<int> held = 0, taken = 0, most = 0;
    const auto take = [&] {
        while (taken < wanted) {
            if (const auto claim = one.records.claims.try_take(diff)) {
                most = std::max<int>(most, ++held);
                ++taken;
                --held;
            }
        }
    };
    std::thread other(take), another(take);
    take();
    other.join();
    another.join();
    CHECK(most == 1);
    CHECK(names_in(one.base / "claims").empty());
}

TEST_CASE("a waiting importer sees the heartbeat of the claim's holder")
{
    const opened_store one;
    const auto claim = one.records.claims.try_take(diff);
    REQUIRE(claim);
    const auto file = (one.base / "claims" / ("sha256-" + diff.value().hex())).string();
    const timespec old[2]{{1000, 0}, {1000, 5}};
    REQUIRE(::utimensat(AT_FDCWD, file.c_str(), old, 0) == 0);
    CHECK(one.records.claims.last_beat(diff) == 1000'000'000'005);
    claim->beat();
    CHECK(one.records.claims.last_beat(diff) > 1000'000'000'005);
}

TEST_CASE("the claim of a dead owner can be taken, and is swept")
{
    const opened_store one;
    // What a killed process leaves: files without a lock.
    for (const diff_id& id : {diff, other_diff})
        write_text(one.base / "claims" / ("sha256-" + id.value().hex()), "");
    CHECK(one.records.claims.try_take(diff));
    const auto living = one.records.claims.try_take(diff);
    one.records.sweep();
    CHECK(names_in(one.base / "claims") == overmount::test::file_names{"sha256-" + diff.value().hex()});
}
