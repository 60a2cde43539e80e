#include <overmount/storage/record_file.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"
#include "support/watched_calls.hpp"

#include <fcntl.h>

#include <set>

namespace fs = std::filesystem;
using overmount::durability;
using overmount::detail::existing;
using overmount::detail::make_record_last;
using overmount::detail::put_record;
using overmount::detail::record_batch;
using overmount::detail::remove_record;
using overmount::unique_fd;
using overmount::test::file_names;
using overmount::test::names_in;
using overmount::test::read_text;
using overmount::test::scratch_directory;
using overmount::test::watched_calls;
using overmount::test::write_text;

namespace {

using calls = std::vector<std::string>;

// A directory for records and one for drafts.
struct place
{
    scratch_directory scratch;
    fs::path records = made("records"), tmp = made("tmp");
    unique_fd directory{::open(records.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    unique_fd staging{::open(tmp.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

    fs::path made(const char* name) const
    {
        fs::create_directory(scratch / name);
        return scratch / name;
    }
    // The system calls of an action; drafts appear without the random part of their names.
    template <class Act>
    [[nodiscard]] calls calls_of(const Act& act) const
    {
        const watched_calls watch(scratch.path());
        act();
        calls out = watch.calls();
        for (std::string& call : out)
            if (const auto draft = call.find(" tmp/"); draft != std::string::npos)
                call.resize(call.find('-', draft));
        return out;
    }
};

} // namespace

TEST_CASE("drafts of records are not visible before they are published")
{
    const place at;
    record_batch batch(at.staging.get(), durability::none);
    CHECK(batch.add(at.directory.get(), "a", "1", existing::keep));
    CHECK(batch.add(at.directory.get(), "sha256/b", "2", existing::keep));
    CHECK(batch.add_directory(at.directory.get(), "sha256/c", {{"one", "3"}, {"two", "4"}}));
    batch.sync_drafts();
    CHECK_FALSE(fs::exists(at.records / "a"));
    CHECK(names_in(at.records / "sha256").empty());
    CHECK(names_in(at.tmp).size() == 3);
    batch.publish();
    CHECK(read_text(at.records / "a") == "1");
    CHECK(read_text(at.records / "sha256/b") == "2");
    CHECK(read_text(at.records / "sha256/c/one") == "3");
    CHECK(read_text(at.records / "sha256/c/two") == "4");
    CHECK(names_in(at.tmp).empty());
}

TEST_CASE("records are published in the order in which they were added")
{
    const place at;
    record_batch batch(at.staging.get(), durability::none);
    for (const char* name : {"z", "sha256/m", "a"})
        batch.add(at.directory.get(), name, "text", existing::replace);
    batch.add_directory(at.directory.get(), "b", {});
    CHECK((at.calls_of([&] { batch.publish(); }) ==
           calls{"rename records/z", "rename records/sha256/m", "rename records/a", "rename records/b"}));
}

TEST_CASE("an existing record is kept or replaced, as requested")
{
    const place at;
    write_text(at.records / "keep", "same");
    write_text(at.records / "replace", "old");
    write_text(at.records / "whole/file", "same");
    record_batch batch(at.staging.get(), durability::none);
    CHECK_FALSE(batch.add(at.directory.get(), "keep", "same", existing::keep));
    CHECK(batch.add(at.directory.get(), "replace", "new", existing::replace));
    CHECK_FALSE(batch.add_directory(at.directory.get(), "whole", {{"file", "same"}}));
    CHECK(batch.add(at.directory.get(), "later", "new", existing::keep));
    CHECK(batch.add_directory(at.directory.get(), "whole later", {{"file", "new"}}));
    write_text(at.records / "later", "faster"); // published by another process
    write_text(at.records / "whole later/file", "faster");
    batch.publish();
    CHECK(read_text(at.records / "keep") == "same");
    CHECK(read_text(at.records / "replace") == "new");
    CHECK(read_text(at.records / "whole/file") == "same");
    CHECK(read_text(at.records / "later") == "faster");
    CHECK(read_text(at.records / "whole later/file") == "faster");
    CHECK(names_in(at.tmp).empty());
}

TEST_CASE("a record that a power cut has emptied is written again")
{
    const place at;
    write_text(at.records / "one", "");
    write_text(at.records / "whole/file", "");
    fs::create_directory(at.records / "nothing");
    record_batch batch(at.staging.get(), durability::none);
    CHECK(batch.add(at.directory.get(), "one", "text", existing::keep));
    batch.add_directory(at.directory.get(), "whole", {{"file", "text"}, {"other", "text"}});
    batch.add_directory(at.directory.get(), "nothing", {{"file", "text"}});
    batch.publish();
    for (const char* file : {"one", "whole/file", "whole/other", "nothing/file"})
        CHECK(read_text(at.records / file) == "text");
    CHECK(names_in(at.tmp).empty());
}

TEST_CASE("drafts that are not published are removed")
{
    const place at;
    write_text(at.records / "in the way/file", "");
    {
        record_batch batch(at.staging.get(), durability::none);
        batch.add(at.directory.get(), "a", "1", existing::replace);
        batch.add(at.directory.get(), "in the way", "2", existing::replace); // a directory has this name: publishing fails
        batch.add(at.directory.get(), "b", "3", existing::replace);
        batch.add_directory(at.directory.get(), "c", {{"file", "4"}});
        CHECK_THROWS_AS(batch.publish(), overmount::error);
        CHECK(names_in(at.tmp).size() == 3);
    }
    CHECK(names_in(at.tmp).empty());
    CHECK((names_in(at.records) == file_names{"a", "in the way"}));
}

TEST_CASE("records are synced before they are published, and their directories afterwards")
{
    const place at;
    for (const durability sync : {durability::batch, durability::full}) {
        CAPTURE(to_string(sync));
        fs::remove_all(at.records / "sha256");
        const auto happened = at.calls_of([&] {
            record_batch batch(at.staging.get(), sync);
            batch.add(at.directory.get(), "sha256/a", "1", existing::keep);
            batch.add_directory(at.directory.get(), "sha256/b", {{"file", "2"}});
            batch.sync_drafts();
            batch.publish();
        });
        CHECK((happened == calls{"fsync tmp/record", "fsync tmp/draft", "fsync tmp/draft", "rename records/sha256/a",
                                 "rename records/sha256/b", "fsync records/sha256", "fsync records"}));
    }
    CHECK((at.calls_of([&] {
        put_record(at.staging.get(), at.directory.get(), "c", "", durability::none, existing::replace);
    }) == calls{"rename records/c"}));
}

TEST_CASE("an existing record is synced, even if another process published it")
{
    const place at;
    write_text(at.records / "sha256/a", "1");
    write_text(at.records / "sha256/b/file", "2");
    const auto with = [&](durability sync) {
        const calls happened = at.calls_of([&] {
            record_batch batch(at.staging.get(), sync);
            batch.add(at.directory.get(), "sha256/a", "1", existing::keep);
            batch.add_directory(at.directory.get(), "sha256/b", {{"file", "2"}});
            batch.sync_drafts();
            batch.publish();
        });
        return std::set<std::string>(happened.begin(), happened.end());
    };
    const std::set<std::string> expected{"fsync records/sha256/a", "fsync records/sha256/b/file", "fsync records/sha256/b",
                         "fsync records/sha256", "fsync records"};
    CHECK(with(durability::batch) == expected);
    CHECK(with(durability::full) == expected);
    CHECK(with(durability::none).empty());
    CHECK(at.calls_of([&] {
        make_record_last(at.directory.get(), "sha256/b");
    }) == calls{"fsync records/sha256/b/file", "fsync records/sha256/b", "fsync records/sha256", "fsync records"});
}

TEST_CASE("a record that another process publishes at the same time is synced as well")
{
    const place at;
    record_batch batch(at.staging.get(), durability::batch);
    batch.add(at.directory.get(), "a", "1", existing::keep);
    batch.sync_drafts();
    write_text(at.records / "a", "faster");
    CHECK((at.calls_of([&] { batch.publish(); }) == calls{"rename records/a", "fsync records/a", "fsync records"}));
}

TEST_CASE("the removal of a record is durable")
{
    const place at;
    write_text(at.records / "sha256/a/file", "old");
    CHECK((at.calls_of([&] { CHECK(remove_record(at.staging.get(), at.directory.get(), "sha256/a", durability::batch)); }) ==
           calls{"rename tmp/trash", "fsync records/sha256"}));
    CHECK_FALSE(remove_record(at.staging.get(), at.directory.get(), "sha256/a", durability::batch));
    CHECK(names_in(at.records / "sha256").empty());
}
