#include <overmount/repository/records/mount_table.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>

namespace fs = std::filesystem;
using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::durability;
using overmount::mount_record;
using overmount::mountinfo;
using overmount::detail::mount_table;
using overmount::detail::stacked_layer;
using overmount::detail::store;
using overmount::detail::unique_fd;
using overmount::test::scratch_directory;

namespace {

struct opened
{
    scratch_directory scratch;
    fs::path base = scratch / "repository";
    std::shared_ptr<store> records = std::make_shared<store>(base, "directory", false);
    mount_table table{records};
    digest image = digest::of("image");
};

bool is_there(const opened& one, const mount_record& record) { return fs::exists(one.base / "mounts" / record.id); }

void put_layer(const opened& one, const chain_id& chain, const overmount::layer_record& record)
{
    overmount::detail::record_batch batch(one.records->staging.fd(), durability::none);
    one.records->layers.add(batch, chain, record);
    batch.show();
}

// Changes a field of a record on disk.
void change(const opened& one, const mount_record& record, const std::string& from, const std::string& to)
{
    const auto file = one.base / "mounts" / record.id / "record.json";
    std::ifstream in(file);
    std::string text(std::istreambuf_iterator<char>(in), {});
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
    std::ofstream(file) << text;
}

// A namespace that the first process is not in, with a mount of that source.
mountinfo table_with(const std::string& source)
{
    return mountinfo::parse("4000000000 2 0:1 / / rw - ext4 disk rw\n4000000001 2 0:1 / /m rw - overlay " + source +
                            " rw\n");
}

stacked_layer layer(const fs::path& directory, bool with_root = true)
{
    fs::create_directories(directory);
    overmount::diff_record record;
    record.implied_root = !with_root;
    return {{std::make_shared<unique_fd>(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
             directory.filename().string()},
            record};
}

} // namespace

TEST_CASE("a mount is recorded with its place, its boot and its namespace")
{
    opened one;
    const auto own = one.table.add(one.image, "", false);
    const auto given = one.table.add(one.image, "/a/../some where\n", true);
    CHECK(own.target == (one.base / "mounts" / own.id / "target").string());
    CHECK(given.target == "/some where\n");
    const auto listed = one.table.list();
    REQUIRE(listed.size() == 2);
    for (const auto& record : listed) {
        CHECK(record.image == one.image);
        CHECK(record.boot == overmount::detail::boot_id());
        CHECK(record.mount_namespace != 0);
        CHECK(record.target == (record.id == own.id ? own.target : given.target));
        CHECK(record.writable == (record.id == given.id));
    }
    CHECK(fs::is_empty(one.base / "tmp"));
    one.table.remove(own);
    one.table.remove(own); // somebody else was quicker
    CHECK(one.table.list().size() == 1);
    CHECK(fs::is_empty(one.base / "tmp"));
}

TEST_CASE("a mount lives as long as its boot and, in its namespace, as it is mounted")
{
    opened one;
    auto record = one.table.add(one.image, "", false);
    CHECK(mount_table::alive(record, table_with(record.source())));
    CHECK_FALSE(mount_table::alive(record, table_with("another")));
    record.mount_namespace += 1;
    CHECK(mount_table::alive(record, table_with("another")));
    record.boot = "another";
    CHECK_FALSE(mount_table::alive(record, table_with(record.source())));
}

TEST_CASE("who does not see all mounts takes every one for alive")
{
    opened one;
    const auto record = one.table.add(one.image, "", false);
    SECTION("in a chroot that is no mount")
    {
        CHECK(mount_table::alive(record, mountinfo::parse("7 2 0:1 / /m rw - overlay another rw\n")));
    }
    SECTION("in a chroot that is a mount of the first process")
    {
        std::ifstream in("/proc/1/mountinfo");
        const std::string text(std::istreambuf_iterator<char>(in), {});
        const auto first = mountinfo::parse(text);
        REQUIRE(first.entries().size() > 1);
        for (const auto& entry : first.entries()) {
            const auto line = std::to_string(entry.id) + " 2 0:1 / / rw - ext4 disk rw\n";
            CHECK(mount_table::alive(record, mountinfo::parse(line)) == (entry.mount_point != "/"));
        }
    }
}

TEST_CASE("a sweep removes records whose mount is gone")
{
    opened one;
    const auto dead = one.table.add(one.image, "", false), dead_writable = one.table.add(one.image, "", true);
    const auto elsewhere = one.table.add(one.image, "", true);
    const auto old = one.table.add(one.image, "", false), old_writable = one.table.add(one.image, "", true);
    std::ofstream(one.base / "mounts" / old_writable.id / "upper/work") << "of a day";
    change(one, elsewhere, std::to_string(elsewhere.mount_namespace), "1");
    for (const auto& record : {old, old_writable})
        change(one, record, record.boot, "another");
    one.table.sweep();
    CHECK_FALSE(is_there(one, dead));
    CHECK_FALSE(is_there(one, dead_writable));
    CHECK_FALSE(is_there(one, old));
    CHECK(is_there(one, elsewhere));
    CHECK(fs::exists(one.base / "mounts" / old_writable.id / "upper/work"));
    CHECK(fs::is_empty(one.base / "tmp"));
}

TEST_CASE("what is stacked has two lower directories where there is no upper")
{
    opened one;
    const diff_id diff(digest::of("diff"));
    const auto top = chain_id::of(diff);
    put_layer(one, top, {diff, std::nullopt});
    const auto read_only = one.table.add(one.image, "", false), writable = one.table.add(one.image, "", true);
    const auto size = [&](const mount_record& record, const std::vector<stacked_layer>& stack) {
        const auto spec =
            one.table.spec_of(record, stack.empty() ? std::nullopt : std::optional(top), stack);
        CHECK_NOTHROW(spec.validate());
        CHECK(spec.source() == record.source());
        CHECK(spec.upper().has_value() == record.writable);
        return spec.lowers().size();
    };
    SECTION("no layer")
    {
        CHECK(size(read_only, {}) == 2);
        CHECK(size(writable, {}) == 1);
    }
    SECTION("one layer")
    {
        CHECK(size(read_only, {layer(one.base / "diffs/a")}) == 2);
    }
    SECTION("more layers")
    {
        CHECK(size(read_only, {layer(one.base / "diffs/a"), layer(one.base / "diffs/b")}) == 2);
        CHECK(size(writable, {layer(one.base / "diffs/a"), layer(one.base / "diffs/b")}) == 2);
    }
    SECTION("a correction on top of them")
    {
        CHECK(size(read_only, {layer(one.base / "diffs/a", false), layer(one.base / "diffs/b")}) == 3);
    }
}

TEST_CASE("the upper's root looks like the topmost layer's")
{
    opened one;
    const diff_id diff(digest::of("diff"));
    put_layer(one, chain_id::of(diff), {diff, std::nullopt});
    const std::vector<stacked_layer> stack{layer(one.base / "diffs/a")};
    REQUIRE(::chmod((one.base / "diffs/a").c_str(), 01751) == 0);
    const timespec times[2]{{5, 6}, {7, 8}};
    REQUIRE(::utimensat(AT_FDCWD, (one.base / "diffs/a").c_str(), times, 0) == 0);
    const auto record = one.table.add(one.image, "", true);
    static_cast<void>(one.table.spec_of(record, chain_id::of(diff), stack));
    struct stat status;
    REQUIRE(::stat((one.base / "mounts" / record.id / "upper").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777u) == 01751u);
    CHECK(status.st_mtim.tv_sec == 7);
    CHECK(status.st_mtim.tv_nsec == 8);
}

TEST_CASE("a chain's correction is made once")
{
    opened one;
    const diff_id diff(digest::of("diff"));
    const auto needed = chain_id::of(diff), plain = chain_id::of(needed, diff);
    for (const auto& chain : {needed, plain})
        put_layer(one, chain, {diff, std::nullopt});
    const std::vector<stacked_layer> implied{layer(one.base / "diffs/a", false), layer(one.base / "diffs/b")};
    const std::vector<stacked_layer> whole{layer(one.base / "diffs/a"), layer(one.base / "diffs/b")};
    CHECK_FALSE(one.table.has_correction_note(needed));
    CHECK(one.table.ensure_correction(needed, implied));
    CHECK(one.table.has_correction_note(needed));
    CHECK(one.table.ensure_correction(needed, whole)); // as it was found the first time
    CHECK(fs::is_directory(one.base / overmount::detail::layer_path(needed) / "correction"));
    CHECK_FALSE(one.table.ensure_correction(plain, whole));
    CHECK_FALSE(one.table.ensure_correction(plain, implied));
    CHECK_FALSE(fs::exists(one.base / overmount::detail::layer_path(plain) / "correction"));
    CHECK(fs::is_empty(one.base / "tmp"));
}

TEST_CASE("the note of a correction that is damaged, or of another boot, is made again")
{
    opened one;
    const diff_id diff(digest::of("diff"));
    const auto chain = chain_id::of(diff);
    put_layer(one, chain, {diff, std::nullopt});
    const std::vector<stacked_layer> implied{layer(one.base / "diffs/a", false), layer(one.base / "diffs/b")};
    const fs::path note = one.base / overmount::detail::layer_path(chain) / "correction.json";
    const auto text = [&note] {
        std::ifstream in(note);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    CHECK(one.table.ensure_correction(chain, implied));
    const std::string whole = text();
    std::string old = whole;
    REQUIRE(old.find(overmount::detail::boot_id()) != std::string::npos);
    old.replace(old.find(overmount::detail::boot_id()), overmount::detail::boot_id().size(), "another boot");
    for (const std::string& damaged : {std::string(), whole.substr(0, whole.size() / 2), std::string("[]"), old}) {
        CAPTURE(damaged);
        fs::remove_all(note.parent_path() / "correction"); // a power cut may take that as well, and leave a part of it
        fs::create_directories(note.parent_path() / "correction/part");
        std::ofstream(note) << damaged;
        CHECK_FALSE(one.table.has_correction_note(chain));
        CHECK(one.table.ensure_correction(chain, implied));
        CHECK(text() == whole);
        CHECK_FALSE(fs::exists(note.parent_path() / "correction/part"));
        CHECK(one.table.has_correction_note(chain));
    }
}
