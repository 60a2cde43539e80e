#include <overmount/repository/records/leases.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"
#include "support/scratch.hpp"

#include <fcntl.h>

#include <fstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;
using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::durability;
using overmount::error;
using overmount::detail::lease_content;
using overmount::detail::lease_line;
using overmount::detail::lease_table;
using overmount::detail::leased_kind;
using overmount::detail::open_directory;
using overmount::detail::parse_lease;
using overmount::detail::store;
using overmount::detail::timed_lease_record;
using overmount::detail::two_clocks;
using overmount::unique_fd;
using overmount::test::names_in;
using overmount::test::opened_store;
using overmount::test::read_text;
using overmount::test::scratch_directory;
using overmount::test::write_text;

namespace {

const digest thing = digest::of("one");

struct table
{
    scratch_directory scratch;
    unique_fd directory = make("leases"), staging = make("tmp");
    lease_table leases{directory.get()};

    [[nodiscard]] unique_fd make(const char* name) const
    {
        fs::create_directory(scratch / name);
        return open_directory(AT_FDCWD, (scratch / name).native());
    }
    [[nodiscard]] fs::path file(const char* name) const { return scratch / "leases" / name; }

    void put(const std::string& name, std::int64_t seconds)
    {
        timed_lease_record record;
        record.name = name;
        record.end = two_clocks::now();
        record.end.wall += seconds;
        record.end.since_boot += seconds;
        record.content.layer(chain_id(thing));
        leases.put(staging.get(), record, durability::none);
    }
};

} // namespace

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

TEST_CASE("a lease is read as it was written, without an incomplete last line")
{
    lease_content content;
    content.diff(diff_id(thing)).layer(chain_id(thing)).image(thing).manifest(thing).blob(thing);
    const std::vector<lease_line> wanted{{leased_kind::diff, thing}, {leased_kind::layer, thing}, {leased_kind::image, thing},
                                         {leased_kind::manifest, thing}, {leased_kind::blob, thing}};
    CHECK(parse_lease(content.text()) == wanted);
    std::string cut = content.text();
    cut.pop_back();
    CHECK(parse_lease(cut).size() == 4);
    CHECK(parse_lease("").empty());
    const std::vector<std::string> damaged{"\n", "layer\n", "layer x\n", "tag " + thing.string() + "\n", thing.string() + "\n"};
    for (const std::string& text : damaged)
        CHECK_THROWS_AS(parse_lease(text), error);
}

TEST_CASE("a timed lease expires by the time since boot, and in another boot by the wall clock")
{
    timed_lease_record record;
    record.end = {"this", 1000, 50};
    CHECK_FALSE(record.is_over({"this", 999999, 49})); // the wall clock was set forward
    CHECK(record.is_over({"this", 0, 50}));            // the wall clock was set back
    CHECK_FALSE(record.is_over({"another", 999, 999999}));
    CHECK(record.is_over({"another", 1000, 0}));
    record.end.boot = ""; // the boot ID is unknown
    CHECK(record.is_over({"", 1000, 0}));
    CHECK_FALSE(record.is_over({"", 999, 50}));
}

TEST_CASE("a timed lease is read as it was written")
{
    timed_lease_record record;
    record.name = "a name\nwith \xff";
    record.end = {"boot", 1000, 50};
    record.content.layer(chain_id(thing)).image(thing);
    const auto read = timed_lease_record::parse(record.text());
    CHECK(read.name == record.name);
    CHECK(read.end.boot == "boot");
    CHECK(read.end.wall == 1000);
    CHECK(read.end.since_boot == 50);
    CHECK(read.content.text() == record.content.text());
    CHECK_THROWS_AS(timed_lease_record::parse("{}"), error);
}

TEST_CASE("a lease keeps objects while its owner holds its lock, or until it expires")
{
    table all;
    {
        const auto held = all.leases.take(lease_content().layer(chain_id(thing)));
        const auto files = all.leases.files();
        REQUIRE(files.size() == 1);
        CHECK(all.leases.live(files[0]) == std::vector<lease_line>{{leased_kind::layer, thing}});
        const auto before = all.leases.version(files[0]);
        held.add(lease_content().image(thing));
        CHECK(all.leases.version(files[0]) != before);
        CHECK(all.leases.live(files[0]).size() == 2);
        CHECK(all.leases.over() == 0);
    }
    CHECK(all.leases.files().empty());
    std::ofstream(all.file("dead")) << lease_content().layer(chain_id(thing)).text();
    CHECK(all.leases.live("dead").empty());
    CHECK(all.leases.live("missing").empty());
    CHECK_FALSE(fs::exists(all.file("missing")));

    all.put("lasts", 1000);
    all.put("over", 0);
    std::size_t live = 0;
    for (const std::string& file : all.leases.files())
        live += all.leases.live(file).size();
    CHECK(live == 1);
    CHECK(all.leases.over() == 2);
}

TEST_CASE("a sweep removes leases of dead owners and expired ones")
{
    table all;
    const auto held = all.leases.take({});
    std::ofstream(all.file("dead")) << "";
    all.put("lasts", 1000);
    all.put("over", 0);
    std::ofstream(all.file("timed-damaged.json")) << "{";
    CHECK(all.leases.sweep() == 2);
    CHECK(all.leases.files().size() == 3); // a damaged lease stays: the collection reports it
    CHECK(all.leases.end(all.staging.get(), "lasts", durability::none));
    CHECK_FALSE(all.leases.end(all.staging.get(), "lasts", durability::none));
    CHECK_THROWS_AS(all.leases.live("timed-damaged.json"), error);
}
