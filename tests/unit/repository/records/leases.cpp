#include <overmount/repository/records/leases.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"

using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::detail::lease_content;
using overmount::detail::store;
using overmount::test::names_in;
using overmount::test::opened_store;
using overmount::test::read_text;
using overmount::test::write_text;

TEST_CASE("a lease names what it keeps, and is locked until it ends")
{
    const opened_store one;
    const diff_id diff(digest::of("a"));
    const std::string first = "diff " + diff.string() + "\nimage " + digest::of("i").string() + "\n";
    const std::string second = "layer " + chain_id::of(diff).string() + "\nmanifest " + digest::of("m").string() + "\nblob " +
                               digest::of("b").string() + "\n";
    {
        const auto lease = one.records.leases.take(lease_content().diff(diff).image(digest::of("i")));
        const auto names = names_in(one.base / "leases");
        REQUIRE(names.size() == 1);
        CHECK(read_text(one.base / "leases" / *names.begin()) == first);
        lease.add(lease_content().layer(chain_id::of(diff)).manifest(digest::of("m")).blob(digest::of("b")));
        CHECK(read_text(one.base / "leases" / *names.begin()) == first + second);
        store(one.base, "directory", false).sweep();
        CHECK(names_in(one.base / "leases") == names);
    }
    CHECK(names_in(one.base / "leases").empty());
}

TEST_CASE("the lease of a dead owner is swept")
{
    const opened_store one;
    write_text(one.base / "leases/dead", "diff " + digest::of("a").string() + "\n");
    one.records.sweep();
    CHECK(names_in(one.base / "leases").empty());
}
