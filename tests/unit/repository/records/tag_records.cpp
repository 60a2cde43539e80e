// Images and tags, the roots of a collection.
#include <overmount/repository/records/tag_records.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"

#include <atomic>
#include <thread>
#include <vector>

namespace fs = std::filesystem;
using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::error;
using overmount::detail::digest_path;
using overmount::test::error_of;
using overmount::test::opened_store;
using overmount::test::write_text;

namespace {

digest of(std::string_view text) { return digest::of(text); }

fs::path file_of(const opened_store& one, const std::string& tag) { return one.base / "tags" / (of(tag).hex() + ".json"); }

} // namespace

TEST_CASE("a tag and an image can each be removed once")
{
    const opened_store one;
    const int tmp = one.records.staging.fd();
    one.put_image(of("image"), "{}");
    one.put_tag({"a/b:1", of("image"), of("manifest"), std::string("s\xff\n\0rce", 7), "now", of("index")});
    const auto found = one.records.tag("a/b:1");
    REQUIRE(found);
    CHECK(found->manifest == of("manifest"));
    CHECK(found->index == of("index"));
    CHECK(found->source == std::string("s\xff\n\0rce", 7));
    CHECK(one.records.tag_files.remove(tmp, "a/b:1", durability::none));
    CHECK_FALSE(one.records.tag_files.remove(tmp, "a/b:1", durability::none));
    CHECK(one.records.image_files.remove(tmp, of("image"), durability::none));
    CHECK_FALSE(one.records.image_files.remove(tmp, of("image"), durability::none));
    CHECK(one.records.images().empty());
    CHECK(one.records.tags().empty());
}

TEST_CASE("an image is marked once its layers and documents are durable, also if it already exists, and its config stays")
{
    const opened_store one;
    one.put_image(of("none"), "config");
    one.put_image(of("batch"), "config", durability::batch);
    CHECK_FALSE(one.records.image_files.is_durable(of("none")));
    CHECK(one.records.image_files.is_durable(of("batch")));
    for (int i = 0; i < 2; ++i) // by an operation that relies on the existing image
        one.put_image(of("none"), "config", durability::batch);
    CHECK(one.records.image_files.is_durable(of("none")));
    CHECK(one.records.image(of("none")) == "config");
    CHECK_FALSE(one.records.image_files.is_durable(of("nowhere")));
}

TEST_CASE("a look-up while a record is replaced gets all of the old or all of the new one")
{
    const opened_store one;
    const std::string name = "example.org/a:1";
    const std::string long_text(100000, 'x');
    one.put_tag({name, of("0"), {}, long_text, {}});
    std::atomic<bool> done = false, broken = false;
    std::thread reader([&] {
        while (!done) {
            const auto found = one.records.tag(name);
            if (!found || found->source != long_text || one.records.tags().size() != 1)
                broken = true;
        }
    });
    for (int i = 0; i < 100; ++i)
        one.put_tag({name, of(std::to_string(i)), {}, long_text, {}});
    done = true;
    reader.join();
    CHECK_FALSE(broken);
    CHECK(one.records.tag(name)->image == of("99"));
}

TEST_CASE("an unfinished layer or image is not listed")
{
    const opened_store one;
    std::atomic<bool> done = false, broken = false;
    std::thread reader([&] {
        while (!done) {
            for (const auto& chain : one.records.layers.list())
                if (!one.records.layers.find(chain))
                    broken = true;
            for (const auto& id : one.records.images())
                if (one.records.image(id) != "config")
                    broken = true;
        }
    });
    for (int i = 0; i < 200; ++i) {
        const diff_id diff(of(std::to_string(i)));
        one.put_layer(chain_id::of(diff), {diff, std::nullopt});
        one.put_image(of(std::to_string(i)), "config");
    }
    done = true;
    reader.join();
    CHECK_FALSE(broken);
    CHECK(one.records.layers.list().size() == 200);
    CHECK(one.records.images().size() == 200);
}

TEST_CASE("a damaged tag is left out of the list and reported, and a look-up of it throws")
{
    const opened_store one;
    for (const char* name : {"a:1", "b:1", "c:1", "d:1"})
        one.put_tag({name, of("image"), {}, {}, {}});
    write_text(file_of(one, "b:1"), "");
    fs::rename(file_of(one, "c:1"), one.base / "tags/another's.json");
    std::set<std::string> told;
    const auto tags = one.records.tags([&](const error& damaged) {
        CHECK(damaged.code() == errc::corrupt_repository);
        told.insert(damaged.subject());
    });
    REQUIRE(tags.size() == 2);
    CHECK(tags[0].name == "a:1");
    CHECK(tags[1].name == "d:1");
    CHECK((told == std::set<std::string>{"tags/" + of("b:1").hex() + ".json", "tags/another's.json"}));
    CHECK(one.records.tags().size() == 2); // without a listener
    CHECK(error_of([&] { static_cast<void>(one.records.tag("b:1")); }).subject() == "tags/" + of("b:1").hex() + ".json");
    CHECK(one.records.tag("a:1"));
}
