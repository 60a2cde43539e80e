#include <overmount/storage/diff_directory.hpp>

#include <overmount/posix/fs.hpp>
#include <overmount/storage/virtual_storage.hpp>

#include "conformance/storage_fixture.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <fstream>
#include <vector>

namespace fs = std::filesystem;
namespace om = overmount;

using om::durability;
using fixture = om::test::storage_fixture<om::virtual_storage>;

namespace {

std::string read(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

fs::path kept(const fixture& place)
{
    return fs::read_symlink("/proc/self/fd/" + std::to_string(place.where().diffs())) / "sha256" / place.id().value().hex();
}

std::vector<std::string> names(const fs::path& directory)
{
    std::vector<std::string> out;
    for (const auto& one : fs::directory_iterator(directory))
        out.push_back(one.path().filename());
    std::sort(out.begin(), out.end());
    return out;
}

void replace(fixture& place, const std::string& content)
{
    auto writer = place.create();
    place.feed(writer, content);
    (void)writer.finish();
    writer.replace(place.id());
}

std::string packed(om::virtual_storage::reader from)
{
    std::string out(1 << 20, '\0');
    out.resize(from.read(std::as_writable_bytes(std::span(out))));
    return out;
}

} // namespace

TEST_CASE("a diff with a damaged record is not made durable, and is left unchanged")
{
    fixture place;
    place.put(place.tar());
    const fs::path record = kept(place) / "diff.json";
    const std::string whole = read(record);
    for (const std::string& damaged : {std::string(), whole.substr(0, whole.size() / 2), std::string("[]")}) {
        std::ofstream(record, std::ios::binary) << damaged;
        om::error said{boost::system::error_code()};
        try {
            place.storage().make_durable(place.id(), place.where().staging(), [] {});
        } catch (const om::error& failure) {
            said = failure;
        }
        CHECK(said.code() == om::errc::corrupt_repository);
        CHECK(said.subject() == "diffs/sha256/" + place.id().value().hex() + "/diff.json");
        CHECK(read(record) == damaged);
    }
    std::ofstream(record, std::ios::binary) << whole;
    place.storage().make_durable(place.id(), place.where().staging(), [] {});
    CHECK(place.storage().record(place.id()).sync == durability::batch);
}

TEST_CASE("a diff published early is visible in this boot, durable once it is marked so, and never damaged after a power cut")
{
    fixture place;
    auto writer = place.create();
    place.feed(writer, place.tar());
    om::diff_record record = writer.finish();
    record.sync = durability::none;
    writer.rewrite(record);
    REQUIRE(writer.publish(place.id()));
    auto storage = place.storage();
    CHECK(storage.contains(place.id()));
    CHECK(storage.record(place.id()).sync == durability::none);

    const fs::path file = kept(place) / "diff.json";
    const std::string whole = read(file);
    const auto boot = whole.find(record.boot);
    REQUIRE(boot != std::string::npos);
    std::ofstream(file, std::ios::binary) << std::string(whole).replace(boot, record.boot.size(), "another");
    CHECK_FALSE(storage.contains(place.id()));
    const auto failure_of_record = [&] {
        try {
            static_cast<void>(storage.record(place.id()));
        } catch (const om::error& failure) {
            return failure.code();
        }
        return boost::system::error_code();
    };
    for (const std::string& left : {std::string(), std::string(whole.size(), '\0')}) { // what file systems leave of new files
        std::ofstream(file, std::ios::binary) << left;
        CHECK_FALSE(storage.contains(place.id()));
        CHECK(failure_of_record() == om::errc::layer_not_found);
    }
    std::ofstream(file, std::ios::binary) << whole;

    const std::uint64_t identity = storage.identity(place.id());
    CHECK_FALSE(storage.mark_durable(place.id(), identity + 1, place.where().staging()));
    CHECK(storage.record(place.id()).sync == durability::none);
    CHECK(storage.mark_durable(place.id(), identity, place.where().staging()));
    CHECK(storage.record(place.id()).sync == durability::batch);
    std::ofstream(file, std::ios::binary) << ""; // without the mark this is damage
    CHECK(failure_of_record() == om::errc::corrupt_repository);
}

TEST_CASE("a replaced diff is kept next to the new one, and an open reader can still read it")
{
    fixture place(durability::full);
    place.put(place.tar());
    auto reader = place.storage().pack(place.id());
    place.storage().mark_damaged(place.storage().version(place.id()), place.where().staging());
    const std::string second = place.tar("second", 2), third = place.tar("third", 3), hex = place.id().value().hex();
    replace(place, second);
    CHECK(names(kept(place).parent_path()) == std::vector<std::string>{hex, hex + ".1"});
    CHECK(read(kept(place) / "layer.tar") == second);
    CHECK(names(kept(place).string() + ".1") == std::vector<std::string>{"damaged", "diff.json", "index", "layer.tar"});
    replace(place, third);
    CHECK(names(kept(place).parent_path()) == std::vector<std::string>{hex, hex + ".1", hex + ".2"});
    CHECK(read(kept(place) / "layer.tar") == third);
    CHECK(read(kept(place).string() + ".2/layer.tar") == second);
    CHECK(packed(std::move(reader)) == place.tar());
}

TEST_CASE("a diff of an earlier boot that was never synced can be replaced")
{
    fixture place(durability::none);
    place.put(place.tar());
    const fs::path record = kept(place) / "diff.json";
    std::string text = read(record);
    const std::string boot = om::detail::boot_id();
    REQUIRE(text.find(boot) != std::string::npos);
    text.replace(text.find(boot), boot.size(), "another boot");
    std::ofstream(record) << text;
    REQUIRE_FALSE(place.storage().contains(place.id()));
    replace(place, place.tar());
    CHECK(place.storage().contains(place.id()));
}

TEST_CASE("a diff with an unreadable record can be marked as damaged and replaced")
{
    fixture place;
    place.put(place.tar());
    std::ofstream(kept(place) / "diff.json") << "{";
    place.storage().mark_damaged(place.storage().version(place.id()), place.where().staging());
    CHECK(place.storage().is_damaged(place.id()));
    CHECK_FALSE(place.storage().contains(place.id()));
    replace(place, place.tar());
    CHECK(place.storage().contains(place.id()));
}
