#include <overmount/storage/virtual_storage.hpp>

#include "conformance/storage_fixture.hpp"
#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <fstream>

namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::storage_fixture;
using om::test::tar_attributes;
using om::test::tar_writer;
using fixture = storage_fixture<om::virtual_storage>;

namespace {

std::string read(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void write(const fs::path& file, const std::string& content)
{
    std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
}

fs::path kept(const fixture& place, const std::string& tar)
{
    return fs::read_symlink("/proc/self/fd/" + std::to_string(place.where().diffs())) / "sha256" /
           place.id(tar).value().hex();
}

// Paths in order; the lines of an index and of the tar are compared by the conformance battery.
std::string paths(fixture& place, const std::string& tar)
{
    std::string out;
    auto entries = place.storage().entries(place.id(tar));
    for (om::tar::located_entry one; entries.next(one);)
        out += one.entry.path + "@" + std::to_string(one.offset) + " ";
    return out;
}

boost::system::error_code refused(const tar_writer& archive)
{
    return fixture().failure(archive.finish());
}

} // namespace

TEST_CASE("a virtual storage keeps the tar, its index and a record")
{
    fixture place;
    const std::string tar = place.tar();
    const auto record = place.put(tar);
    CHECK(read(kept(place, tar) / "layer.tar") == tar);
    CHECK(fs::file_size(kept(place, tar) / "index") < 1000);
    CHECK(std::distance(fs::directory_iterator(kept(place, tar)), {}) == 3);
    CHECK(record.form == "tar");
    CHECK(record.implied_root);
    CHECK_FALSE(record.opaque_root);
    const auto other = place.put(tar_writer().directory("./").opaque("").finish());
    CHECK_FALSE(other.implied_root);
    CHECK(other.opaque_root);
}

TEST_CASE("a reader continues after its diff is erased")
{
    fixture place;
    const std::string tar = place.tar("text", 500);
    place.put(tar);
    auto reader = place.storage().pack(place.id(tar));
    std::string out(1000, '\0'), piece(700, '\0');
    out.resize(reader.read(std::as_writable_bytes(std::span(out))));
    place.storage().erase(place.id(tar));
    while (const std::size_t count = reader.read(std::as_writable_bytes(std::span(piece))))
        out.append(piece, 0, count);
    CHECK(out == tar);
}

TEST_CASE("entries are listed without an index, and if the index is damaged, of another version or of another tar")
{
    fixture place;
    const std::string tar = place.tar("text", 3), other = place.tar("other", 2);
    place.put(tar);
    place.put(other);
    const fs::path index = kept(place, tar) / "index";
    const std::string whole = read(index), wanted = paths(place, tar);
    CHECK(wanted.starts_with("a/@0 a/text@512 "));
    for (std::size_t at = 0; at < whole.size(); at += 3) {
        std::string damaged = whole;
        damaged[at] ^= 1;
        write(index, damaged);
        REQUIRE(paths(place, tar) == wanted);
        write(index, whole.substr(0, at));
        REQUIRE(paths(place, tar) == wanted);
    }
    write(index, read(kept(place, other) / "index"));
    CHECK(paths(place, tar) == wanted);
    fs::remove(index);
    CHECK(paths(place, tar) == wanted);
    fs::create_directory(index);
    CHECK_THROWS_AS(paths(place, tar), om::error);
}

TEST_CASE("entries are listed from the index if it is intact")
{
    fixture place;
    const std::string tar = place.tar();
    place.put(tar);
    const std::string wanted = paths(place, tar);
    write(kept(place, tar) / "layer.tar", std::string(tar.size(), 'x'));
    CHECK(paths(place, tar) == wanted);
    fs::remove(kept(place, tar) / "index");
    CHECK_THROWS_AS(paths(place, tar), om::error);
}

TEST_CASE("an index of many entries is read in pieces")
{
    fixture place;
    const tar_attributes fat{.xattrs = {{"user.x", std::string(50'000, 'x')}}};
    tar_writer out;
    for (int i = 0; i < 20; ++i)
        out.file(std::to_string(i), "", fat);
    for (int i = 20; i < 3000; ++i)
        out.file(std::to_string(i), "");
    const std::string tar = out.finish();
    place.put(tar);
    const std::string with = paths(place, tar);
    fs::remove(kept(place, tar) / "index");
    CHECK(paths(place, tar) == with);
    CHECK(std::ranges::count(with, '@') == 3000);
}

TEST_CASE("a diff of an earlier boot that was never synced is not contained")
{
    for (const auto sync : {om::durability::none, om::durability::batch, om::durability::full}) {
        fixture place(sync);
        const std::string tar = place.tar();
        place.put(tar);
        auto record = place.storage().record(place.id(tar));
        record.boot = "another boot";
        write(kept(place, tar) / "diff.json", record.to_json());
        CHECK(place.storage().contains(place.id(tar)) == (sync != om::durability::none));
        if (sync == om::durability::none)
            CHECK_THROWS_AS(place.storage().record(place.id(tar)), om::error);
    }
}

TEST_CASE("an entry that unpacking would refuse by itself is refused")
{
    CHECK(refused(tar_writer().file("../x", "")) == errc::entry_escapes_layer);
    CHECK(refused(tar_writer().file(".", "")) == errc::entry_escapes_layer);
    CHECK(refused(tar_writer().file("d/.wh.", "")) == errc::invalid_whiteout);
    CHECK(refused(tar_writer().file(".wh.d/x", "")) == errc::invalid_whiteout);
    CHECK(refused(tar_writer().symlink("x", "")) == errc::entry_escapes_layer);
    CHECK(refused(tar_writer().hard_link("x", "../y")) == errc::entry_escapes_layer);
    CHECK(refused(tar_writer().hard_link("x", "/")) == errc::missing_hard_link_target);
    CHECK(refused(tar_writer().character_device("x", 0, 0)) == errc::unsupported_entry_type);
    CHECK_FALSE(refused(tar_writer().whiteout("x").opaque("d").file(".wh..wh.plnk/.wh.x/y", "").file(".wh..wh.plnk/y", "")));
}
