#include <overmount/repository/records/import_records.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <set>
#include <thread>
#include <vector>

namespace fs = std::filesystem;
using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::error;
using overmount::tag_record;
using overmount::detail::existing;
using overmount::detail::import_record;
using overmount::detail::import_records;
using overmount::detail::lock_kind;
using overmount::detail::record_batch;
using overmount::detail::store;
using overmount::test::file_names;
using overmount::test::names_in;
using overmount::test::opened_store;
using overmount::test::read_text;
using overmount::test::write_text;

namespace {

digest of(std::string_view text) { return digest::of(text); }

// Three images with three tags each; `round` distinguishes the imports.
import_record record_of(int round)
{
    import_record out;
    for (int image = 0; image < 3; ++image) {
        const std::string name = std::to_string(round) + "-" + std::to_string(image);
        out.images.push_back({of(name), "config \xff of " + name, image == 1});
        for (int tag = 0; tag < 3; ++tag)
            out.tags.push_back({"example.org/t" + std::to_string(3 * image + tag) + ":1", of(name), of("manifest"), "source", "now"});
    }
    return out;
}

// A whole commit, as an import makes it.
void show(const store& records, const import_record& record)
{
    const std::string name = import_records::new_name();
    record_batch commit(records.staging.fd(), durability::none), places(records.staging.fd(), durability::none);
    commit.add(records.imports.directory(), name, record.text(), existing::keep);
    for (const import_record::image& one : record.images)
        records.image_files.add(places, one.id, one.config, one.durable);
    for (const tag_record& tag : record.tags)
        records.tag_files.add(places, tag);
    commit.publish();
    records.imports.announce();
    places.publish();
    records.imports.remove(name);
}

} // namespace

TEST_CASE("the record of an import is read as it was written")
{
    const import_record written = record_of(1), read = import_record::parse(written.text());
    REQUIRE(read.images.size() == 3);
    REQUIRE(read.tags.size() == 9);
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK(read.images[i].id == written.images[i].id);
        CHECK(read.images[i].config == written.images[i].config);
        CHECK(read.images[i].durable == (i == 1));
    }
    CHECK(read.tags[4].name == written.tags[4].name);
    CHECK(read.tags[4].image == written.tags[4].image);
    CHECK(import_record::parse(import_record().text()).images.empty());
}

TEST_CASE("a committed import is visible before it is applied")
{
    const opened_store one;
    one.put_tag({"example.org/t0:1", of("old"), {}, {}, {}});
    one.put_tag({"example.org/other:1", of("old"), {}, {}, {}});
    one.put_image(of("old"), "old config");
    static_cast<void>(one.commit(record_of(1)));
    CHECK(one.records.images().size() == 4);
    CHECK(one.records.image(of("1-2")) == "config \xff of 1-2");
    CHECK(one.records.tags().size() == 10);
    CHECK(one.records.tag("example.org/t0:1")->image == of("1-0"));
    CHECK(one.records.tag("example.org/other:1")->image == of("old"));
    CHECK(names_in(one.base / "tags").size() == 2); // nothing is applied
}

TEST_CASE("a committed import is applied once, and reads the same afterwards")
{
    const durability sync = GENERATE(durability::none, durability::batch);
    const opened_store one;
    one.put_tag({"example.org/t0:1", of("old"), {}, {}, {}});
    static_cast<void>(one.commit(record_of(1)));
    one.records.imports.apply_all(sync);
    CHECK(one.records.imports.pending().empty());
    CHECK((names_in(one.base / "imports") == file_names{"last"}));
    CHECK(one.records.images().size() == 3);
    CHECK(one.records.tags().size() == 9);
    CHECK(one.records.tag("example.org/t0:1")->image == of("1-0"));
    CHECK(read_text(one.base / "images/sha256" / of("1-2").hex() / "config.json") == "config \xff of 1-2");
    CHECK(one.records.image_files.is_durable(of("1-1")));
    CHECK_FALSE(one.records.image_files.is_durable(of("1-0")));
    CHECK(names_in(one.base / "tmp").empty());
    one.records.imports.apply_all(sync);
    CHECK(one.records.tags().size() == 9);
}

TEST_CASE("an import whose process died while it was applied is applied completely")
{
    const opened_store one;
    const import_record record = record_of(1);
    static_cast<void>(one.commit(record));
    one.put_image(record.images[0].id, record.images[0].config);
    one.put_tag(record.tags[5]);
    CHECK(one.records.images().size() == 3);
    CHECK(one.records.tags().size() == 9);
    one.records.imports.apply_all(durability::batch);
    CHECK(names_in(one.base / "tags").size() == 9);
    CHECK(names_in(one.base / "images/sha256").size() == 3);
}

TEST_CASE("a listing during imports has all of an import or nothing of it")
{
    const opened_store one;
    constexpr int rounds = 200;
    std::atomic<bool> done = false;
    std::atomic<int> broken = 0, lists = 0;
    std::thread reader([&] {
        const store other(one.base, "directory", false);
        while (!done) {
            if (other.images().size() % 3 != 0)
                ++broken;
            const auto tags = other.tags();
            if (!tags.empty() && tags.size() != 9)
                ++broken;
            std::set<digest> images; // all tags must be of the same import
            for (const tag_record& tag : tags) {
                images.insert(tag.image);
                if (!other.image(tag.image))
                    ++broken;
            }
            if (!tags.empty() && (images.size() != 3 || tags[0].source != tags[8].source))
                ++broken;
            ++lists;
        }
    });
    for (int round = 0; round < rounds; ++round) {
        auto lock = one.records.lock(lock_kind::roots); // as an import: a listing that is disturbed too often takes the lock
        while (!lock.try_take())
            std::this_thread::yield();
        import_record record = record_of(round);
        for (tag_record& tag : record.tags)
            tag.source = std::to_string(round);
        show(one.records, record);
    }
    done = true;
    reader.join();
    CHECK(broken == 0);
    CHECK(lists > 0);
    CHECK(one.records.images().size() == 3 * rounds);
}

TEST_CASE("a listing that is disturbed by a commit in each round takes the lock, and then ends")
{
    const opened_store one;
    int asked = 0, round = 0;
    bool held = false;
    const auto hold = [&] { return held = ++asked == 3; };
    const auto read = [&](const auto& pending, const auto&) {
        if (!held)
            show(one.records, record_of(round));
        ++round;
        return pending.size();
    };
    CHECK(one.records.imports.consistently(read, {}, hold) == 0);
    CHECK(asked == 3);
    CHECK(round == 7); // after four rounds without the lock
}

TEST_CASE("a listing ends while eight processes import without pause, and has all of an import or nothing")
{
    const opened_store one;
    for (int i = 0; i < 200; ++i) { // so that other processes commit meanwhile
        one.put_image(of("there " + std::to_string(i)), "config");
        one.put_tag({"example.org/there:" + std::to_string(i), of("there"), {}, {}, {}});
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1); // the limit for a listing that waits for an idle moment
    const auto import = [&](int number) {
        const store mine(one.base, "directory", false);
        for (int round = 0; std::chrono::steady_clock::now() < end; round = (round + 1) % 10) {
            auto lock = mine.lock(lock_kind::roots);
            while (!lock.try_take())
                std::this_thread::yield();
            import_record record = record_of(10 * number + round);
            for (tag_record& tag : record.tags)
                tag.source = std::to_string(number) + " " + std::to_string(round);
            show(mine, record);
        }
    };
    std::vector<pid_t> importers;
    for (int number = 0; number < 8; ++number) {
        importers.push_back(::fork());
        REQUIRE(importers.back() >= 0);
        if (importers.back() == 0) {
            try {
                import(number);
            } catch (const std::exception&) {
                ::_exit(1);
            }
            ::_exit(0);
        }
    }
    while (one.records.tags().size() == 200)
        std::this_thread::yield();
    for (int i = 0; i < 5; ++i) {
        CHECK((one.records.images().size() - 200) % 3 == 0);
        const auto tags = one.records.tags();
        CHECK(tags.size() == 209);
        std::set<std::string> sources;
        for (const tag_record& tag : tags)
            if (!tag.name.starts_with("example.org/there"))
                sources.insert(tag.source);
        CHECK(sources.size() == 1);
    }
    for (const pid_t importer : importers)
        ::kill(importer, SIGKILL);
    for (const pid_t importer : importers) {
        int status = 0;
        CHECK(::waitpid(importer, &status, 0) == importer);
        CHECK(WIFSIGNALED(status)); // it was still running
    }
}

TEST_CASE("a truncated import record is reported by its path, and hides no other record")
{
    const opened_store one;
    one.put_tag({"a:1", of("image"), {}, {}, {}});
    one.put_image(of("image"), "config");
    const std::string whole = one.commit(record_of(1)), cut = one.commit(record_of(2));
    const std::string text = read_text(one.base / "imports" / cut);
    for (const std::string& damaged : {text.substr(0, text.size() / 2), std::string("{}"), std::string("[]")}) {
        write_text(one.base / "imports" / cut, damaged);
        std::vector<std::string> told;
        const auto note = [&told](const error& failure) {
            CHECK(failure.code() == errc::corrupt_repository);
            told.push_back(failure.subject());
        };
        CHECK(one.records.imports.pending(note).size() == 1);
        CHECK(one.records.images(note).size() == 4);
        CHECK(one.records.tags(note).size() == 10);
        CHECK((told == std::vector<std::string>(3, "imports/" + cut)));
        CHECK(one.records.image(of("image")) == "config");
        CHECK(one.records.image(of("1-0")));
        CHECK_FALSE(one.records.image(of("2-0")));
        CHECK(one.records.tag("example.org/t0:1")->image == of("1-0"));
    }
    one.records.imports.apply_all(durability::none);
    CHECK((names_in(one.base / "imports") == file_names{"last", cut})); // it stays, for `check` to report
    CHECK_FALSE(fs::exists(one.base / "imports" / whole));
    // What a power cut leaves of an import without durability.
    write_text(one.base / "imports" / cut, "");
    one.records.imports.apply_all(durability::none);
    CHECK((names_in(one.base / "imports") == file_names{"last"}));
}
