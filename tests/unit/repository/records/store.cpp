#include <overmount/repository/records/store.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <set>
#include <thread>

namespace fs = std::filesystem;
using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::tag_record;
using overmount::detail::file_lock;
using overmount::detail::store;
using overmount::test::scratch_directory;

namespace {

using strings = std::set<std::string>;

strings names(const fs::path& directory)
{
    strings out;
    for (const auto& entry : fs::directory_iterator(directory))
        out.insert(entry.path().filename().string());
    return out;
}

std::string read(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

void write(const fs::path& file, const std::string& content)
{
    fs::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
}

struct opened
{
    scratch_directory scratch;
    fs::path base = scratch / "repository";
    store records{base, "directory", false};
};

boost::system::error_code open_error(const fs::path& base, bool allow_others = false)
{
    try {
        const store records(base, "directory", allow_others);
    } catch (const overmount::error& failure) {
        return failure.code();
    }
    return {};
}

digest of(std::string_view text) { return digest::of(text); }

// repository.json with these lists of features.
void write_header(const fs::path& base, const std::string& compatible, const std::string& read_only,
                  const std::string& incompatible)
{
    write(base / "repository.json", R"({"version":1,"forms":["directory"],"features":{"compatible":[)" + compatible +
                                        R"(],"read_only_compatible":[)" + read_only + R"(],"incompatible":[)" +
                                        incompatible + "]}}");
}

} // namespace

TEST_CASE("a new repository is for its owner alone, and opens again")
{
    opened one;
    struct stat status;
    REQUIRE(::stat(one.base.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777u) == 0700u);
    CHECK(open_error(one.base) == boost::system::error_code());
    CHECK(names(one.base / "tmp").empty());
}

TEST_CASE("a repository that others may enter opens on request only")
{
    opened one;
    for (const unsigned mode : {0701u, 0710u, 0740u, 0755u}) {
        REQUIRE(::chmod(one.base.c_str(), mode) == 0);
        CHECK(open_error(one.base) == errc::repository_open_to_others);
        CHECK(open_error(one.base, true) == boost::system::error_code());
    }
}

TEST_CASE("a directory of something else is no repository, and stays as it is")
{
    const scratch_directory scratch;
    write(scratch / "other/file", "text");
    REQUIRE(::chmod((scratch / "other").c_str(), 0700) == 0);
    CHECK(open_error(scratch / "other") == errc::not_a_repository);
    CHECK(names(scratch / "other") == strings{"file"});
    CHECK(open_error(scratch / "other/file") == boost::system::errc::not_a_directory);
}

TEST_CASE("what a newer version made opens as far as it says that it may")
{
    opened one;
    one.records.put_tag({"example.org/a:1", of("image"), {}, {}, {}}, durability::none);
    SECTION("a feature that every version may ignore")
    {
        write_header(one.base, R"("news")", "", "");
        const store records(one.base, "directory", false);
        CHECK_NOTHROW(records.lock_shared());
    }
    SECTION("a feature that a reader may ignore")
    {
        write_header(one.base, "", R"("news")", "");
        store records(one.base, "directory", false);
        CHECK(records.tag("example.org/a:1")->image == of("image"));
        const auto refused = [&](auto act) {
            try {
                act();
            } catch (const overmount::error& failure) {
                return failure.code() == errc::unsupported_repository;
            }
            return false;
        };
        CHECK(refused([&] { static_cast<void>(records.lock_shared()); }));
        CHECK(refused([&] { static_cast<void>(records.make_staging()); }));
        CHECK(refused([&] { records.sweep(); }));
        CHECK(names(one.base / "tmp").empty());
    }
    SECTION("a feature that nobody may ignore")
    {
        write_header(one.base, "", "", R"("news")");
        CHECK(open_error(one.base) == errc::unsupported_repository);
    }
    SECTION("another version")
    {
        write(one.base / "repository.json", R"({"version":2,"forms":["directory"],"features":{}})");
        CHECK(open_error(one.base) == errc::unsupported_repository);
    }
    SECTION("another storage")
    {
        CHECK_THROWS_AS(store(one.base, "tar", false), overmount::error);
    }
    SECTION("nonsense")
    {
        for (const char* text : {"", "{", "[]", R"({"version":1})"}) {
            write(one.base / "repository.json", text);
            CHECK(open_error(one.base) == errc::corrupt_repository);
        }
    }
}

TEST_CASE("a layer is read as it was put, and its chain from the top")
{
    opened one;
    const diff_id diff(of("diff"));
    const auto below = chain_id::of(diff), above = chain_id::of(below, diff);
    for (int i = 0; i < 2; ++i) { // the second time it is there already
        one.records.put_layer(below, {diff, std::nullopt}, durability::batch);
        one.records.put_layer(above, {diff, below}, durability::full);
    }
    CHECK(one.records.layers().size() == 2);
    CHECK(one.records.layer(above)->parent == below);
    CHECK_FALSE(one.records.layer(below)->parent);
    CHECK(one.records.chain(above).size() == 2);
    CHECK_FALSE(one.records.layer(chain_id(of("stranger"))));
    CHECK(names(one.base / "tmp").empty());
}

TEST_CASE("the layers of a chain are put together, whichever of them is there")
{
    const durability sync = GENERATE(durability::none, durability::batch, durability::full);
    opened one;
    std::vector<std::pair<chain_id, overmount::layer_record>> layers;
    std::optional<chain_id> parent;
    for (const char* text : {"a", "b", "c"}) {
        const diff_id diff(of(text));
        layers.emplace_back(parent ? chain_id::of(*parent, diff) : chain_id::of(diff),
                            overmount::layer_record{diff, parent});
        parent = layers.back().first;
    }
    one.records.put_layer(layers[1].first, layers[1].second, sync);
    one.records.put_layers(layers, sync);
    one.records.put_layers(layers, sync);
    CHECK(one.records.chain(*parent).size() == 3);
    CHECK(one.records.layers().size() == 3);
    CHECK(names(one.base / "tmp").empty());
}

TEST_CASE("a chain with a gap is told from a layer that is not there")
{
    opened one;
    const diff_id diff(of("diff"));
    const auto below = chain_id::of(diff), above = chain_id::of(below, diff);
    const auto code_of = [&](const chain_id& chain) {
        try {
            static_cast<void>(one.records.chain(chain));
        } catch (const overmount::error& failure) {
            return failure.code();
        }
        return boost::system::error_code();
    };
    CHECK(code_of(above) == errc::layer_not_found);
    one.records.put_layer(above, {diff, below}, durability::none);
    CHECK(code_of(above) == errc::parent_not_mounted);
}

TEST_CASE("who looks while a record is replaced sees the old or the new one, whole")
{
    opened one;
    const std::string name = "example.org/a:1";
    const std::string long_text(100000, 'x');
    one.records.put_tag({name, of("0"), {}, long_text, {}}, durability::none);
    std::atomic<bool> done = false, broken = false;
    std::thread reader([&] {
        while (!done) {
            const auto found = one.records.tag(name);
            if (!found || found->source != long_text || one.records.tags().size() != 1)
                broken = true;
        }
    });
    for (int i = 0; i < 100; ++i)
        one.records.put_tag({name, of(std::to_string(i)), {}, long_text, {}}, durability::none);
    done = true;
    reader.join();
    CHECK_FALSE(broken);
    CHECK(one.records.tag(name)->image == of("99"));
}

TEST_CASE("an unfinished layer or image is not listed")
{
    opened one;
    std::atomic<bool> done = false, broken = false;
    std::thread reader([&] {
        while (!done) {
            for (const auto& chain : one.records.layers())
                if (!one.records.layer(chain))
                    broken = true;
            for (const auto& id : one.records.images())
                if (one.records.image(id) != "config")
                    broken = true;
        }
    });
    for (int i = 0; i < 200; ++i) {
        const diff_id diff(of(std::to_string(i)));
        one.records.put_layer(chain_id::of(diff), {diff, std::nullopt}, durability::none);
        one.records.put_image(of(std::to_string(i)), "config", durability::none);
    }
    done = true;
    reader.join();
    CHECK_FALSE(broken);
    CHECK(one.records.layers().size() == 200);
    CHECK(one.records.images().size() == 200);
}

TEST_CASE("a tag and an image go once")
{
    opened one;
    one.records.put_image(of("image"), "{}", durability::none);
    one.records.put_tag({"a/b:1", of("image"), of("manifest"), std::string("s\xff\n\0rce", 7), "now"},
                        durability::none);
    const auto found = one.records.tag("a/b:1");
    REQUIRE(found);
    CHECK(found->manifest == of("manifest"));
    CHECK(found->source == std::string("s\xff\n\0rce", 7));
    CHECK(one.records.remove_tag("a/b:1"));
    CHECK_FALSE(one.records.remove_tag("a/b:1"));
    CHECK(one.records.remove_image(of("image")));
    CHECK_FALSE(one.records.remove_image(of("image")));
    CHECK(one.records.images().empty());
    CHECK(names(one.base / "tmp").empty());
}

TEST_CASE("a lease names its diffs and is locked until it ends")
{
    opened one;
    std::string name;
    {
        const auto lease = one.records.lease({diff_id(of("a")), diff_id(of("b"))}, name);
        CHECK(read(one.base / "leases" / name) == of("a").string() + "\n" + of("b").string() + "\n");
        store(one.base, "directory", false).sweep();
        CHECK(names(one.base / "leases") == strings{name});
        one.records.end_lease(name);
        CHECK(names(one.base / "leases").empty());
    }
    CHECK_NOTHROW(one.records.end_lease(name));
}

TEST_CASE("a claim is for one at a time, in one handle as well")
{
    opened one;
    store other(one.base, "directory", false);
    const diff_id diff(of("a"));
    CHECK(one.records.claim_time(diff) == 0);
    {
        auto claim = one.records.try_claim(diff);
        REQUIRE(claim);
        CHECK_FALSE(one.records.try_claim(diff));
        CHECK_FALSE(other.try_claim(diff));
        CHECK(other.try_claim(diff_id(of("b"))));
        const auto moved = std::move(*claim);
        CHECK_FALSE(other.try_claim(diff));
    }
    CHECK(names(one.base / "claims").empty());
    CHECK(other.try_claim(diff));
}

TEST_CASE("a claim that threads take and give up in turn is never held by two")
{
    opened one;
    const diff_id diff(of("a"));
    constexpr int wanted = 2000;
    std::atomic<int> held = 0, taken = 0, most = 0;
    const auto take = [&] {
        while (taken < wanted) {
            if (const auto claim = one.records.try_claim(diff)) {
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
    CHECK(names(one.base / "claims").empty());
}

TEST_CASE("who waits for a claim sees that its holder is at work")
{
    opened one;
    const diff_id diff(of("a"));
    const auto claim = one.records.try_claim(diff);
    REQUIRE(claim);
    const auto file = (one.base / "claims" / ("sha256-" + of("a").hex())).string();
    const timespec old[2]{{1000, 0}, {1000, 5}};
    REQUIRE(::utimensat(AT_FDCWD, file.c_str(), old, 0) == 0);
    CHECK(one.records.claim_time(diff) == 1000'000'000'005);
    claim->beat();
    CHECK(one.records.claim_time(diff) > 1000'000'000'005);
}

TEST_CASE("the claim and the staging of a dead owner can be had")
{
    opened one;
    const diff_id diff(of("a"));
    // What a killed process leaves: files whose lock nobody holds.
    write(one.base / "claims" / ("sha256-" + of("a").hex()), "");
    write(one.base / "claims" / ("sha256-" + of("b").hex()), "");
    write(one.base / "leases/dead", of("a").string() + "\n");
    CHECK(one.records.try_claim(diff));
    one.records.sweep();
    CHECK(names(one.base / "claims").empty());
    CHECK(names(one.base / "leases").empty());
}

TEST_CASE("a sweep removes what dead owners left, and nothing of the living")
{
    opened one;
    store other(one.base, "directory", false);
    auto mine = one.records.make_staging();
    write(one.base / "tmp" / mine.name / "layer-0/rootfs/file", "text");
    const auto claim = one.records.try_claim(diff_id(of("a")));
    write(one.base / "tmp/work-dead/lock", "");
    write(one.base / "tmp/work-dead/layer-0/rootfs/file", "text");
    write(one.base / "tmp/work-without-lock/file", "text");
    write(one.base / "tmp/record-dead", "{");
    write(one.base / "tmp/draft-dead/config.json", "{");
    write(one.base / "tmp/mount-dead/record.json", "{");
    write(one.base / "tmp/trash-dead/a/b/c", "text");
    write(one.base / "tmp/erased-dead/rootfs/c", "text");
    write(one.base / "tmp/dead-work-other/c", "text");
    other.sweep();
    CHECK(names(one.base / "tmp") == strings{mine.name});
    CHECK(read(one.base / "tmp" / mine.name / "layer-0/rootfs/file") == "text");
    CHECK(names(one.base / "claims").size() == 1);
    one.records.remove_staging(mine);
    CHECK(names(one.base / "tmp").empty());
}

TEST_CASE("a sweep waits for who shows something at the moment")
{
    opened one;
    std::atomic<bool> swept = false;
    std::thread sweeper;
    {
        const auto guard = one.records.lock_shared();
        const auto second = one.records.lock_shared(); // any number at a time
        write(one.base / "tmp/record-living", "{}");
        sweeper = std::thread([&] {
            store(one.base, "directory", false).sweep();
            swept = true;
        });
        for (int i = 0; i < 1000; ++i)
            std::this_thread::yield();
        CHECK_FALSE(swept);
        CHECK(names(one.base / "tmp") == strings{"record-living"});
        fs::rename(one.base / "tmp/record-living", one.base / "tags/shown.json");
    }
    sweeper.join();
    CHECK(read(one.base / "tags/shown.json") == "{}");
}
