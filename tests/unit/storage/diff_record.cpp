#include <overmount/storage/diff_record.hpp>

#include "support/catch.hpp"

#include <string>
#include <vector>

namespace {

using overmount::diff_record;
using overmount::durability;
using overmount::errc;

diff_record sample()
{
    diff_record out;
    out.form = "directory";
    out.xattrs = "trusted";
    out.sync = durability::batch;
    out.boot = "b00t";
    out.entries = 3;
    out.bytes = ~std::uint64_t{0};
    out.implied_root = false;
    out.opaque_root = true;
    out.skipped_xattrs = true;
    out.implied = {"a", "a/\xff\n%\"", ""};
    out.whiteout_directories = {std::string("b\x01", 2)};
    return out;
}

TEST_CASE("a diff's record survives a round trip, with paths of any bytes")
{
    const diff_record one = sample(), two = diff_record::parse(one.to_json());
    CHECK(two.form == one.form);
    CHECK(two.xattrs == one.xattrs);
    CHECK(two.owners == one.owners);
    CHECK(two.sync == one.sync);
    CHECK(two.boot == one.boot);
    CHECK(two.entries == one.entries);
    CHECK(two.bytes == one.bytes);
    CHECK(two.implied_root == one.implied_root);
    CHECK(two.opaque_root == one.opaque_root);
    CHECK(two.skipped_xattrs == one.skipped_xattrs);
    CHECK(two.implied == one.implied);
    CHECK(two.whiteout_directories == one.whiteout_directories);
}

TEST_CASE("a diff's record may have more paths than a foreign document has values")
{
    diff_record record = sample();
    record.implied.assign(200'000, "a");
    CHECK(diff_record::parse(record.to_json()).implied.size() == 200'000);
}

TEST_CASE("the error for a damaged diff record names the field")
{
    const std::string good = sample().to_json();
    const auto damaged = [&](const std::string& what, const std::string& by) {
        std::string text = good;
        text.replace(text.find(what), what.size(), by);
        try {
            static_cast<void>(diff_record::parse(text));
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::corrupt_repository);
            CHECK(failure.at() == overmount::stage::repository);
            return failure.subject();
        }
        return std::string("no error");
    };
    CHECK(damaged("\"entries\":3", "\"entries\":\"3\"") == "entries");
    CHECK(damaged("\"entries\":3,", "") == "entries");
    CHECK(damaged("\"opaque_root\":true", "\"opaque_root\":1") == "opaque_root");
    CHECK(damaged("\"boot_id\":\"b00t\"", "\"boot_id\":null") == "boot_id");
    CHECK(damaged("\"implied\":[\"a\"", "\"implied\":[7") == "implied[0]");
    CHECK(damaged("{", "") == "the document");
    CHECK(damaged("}", "").empty());
}

} // namespace
