#include <overmount/repository/records/mount_table.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>
#include <map>
#include <memory>
#include <set>

namespace fs = std::filesystem;
using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::mount_identity;
using overmount::mount_record;
using overmount::mount_spec;
using overmount::mount_state;
using overmount::detail::mount_table;
using overmount::detail::stacked_layer;
using overmount::detail::store;
using overmount::unique_fd;
using overmount::test::scratch_directory;

namespace {

std::string correction_of_this_boot() { return "correction-" + overmount::detail::boot_id(); }

struct opened
{
    scratch_directory scratch;
    fs::path base = scratch / "repository";
    std::shared_ptr<store> records = std::make_shared<store>(base, "directory", false);
    mount_table table{records};
    digest image = digest::of("image");

    mount_record add(const std::string& target, bool writable) { return table.add(image, target, writable, {}, durability::none); }
};

bool is_there(const opened& one, const mount_record& record) { return fs::exists(one.base / "mounts" / record.id); }

void put_layer(const opened& one, const chain_id& chain, const overmount::layer_record& record)
{
    overmount::detail::record_batch batch(one.records->staging.fd(), durability::none);
    one.records->layers.add(batch, chain, record);
    batch.publish();
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

overmount::detail::alive_test says(bool answer)
{
    return [answer](const mount_identity&, const mount_spec&) { return answer; };
}

std::set<std::string> entries(const fs::path& directory)
{
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(directory))
        out.insert(entry.path().filename().string());
    return out;
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

TEST_CASE("the record of a mount has its mount point and its lower directories")
{
    opened one;
    const auto own = one.add("", false);
    const auto given = one.table.add(one.image, "/some where\n", true, {"sha256/aa/rootfs", "sha256/bb/rootfs"}, durability::none);
    CHECK(own.target == (one.base / "mounts" / own.id / "target").string());
    const auto listed = one.table.list();
    REQUIRE(listed.size() == 2);
    for (const auto& record : listed) {
        const auto& same = record.id == own.id ? own : given;
        CHECK(record.image == one.image);
        CHECK(record.identity.boot == overmount::detail::boot_id());
        CHECK(record.identity.mount_namespace != 0);
        CHECK(record.identity == same.identity);
        CHECK(record.target == same.target);
        CHECK(record.lowers == same.lowers);
        CHECK(record.writable == (record.id == given.id));
        CHECK(record.is_volatile == (record.id == given.id));
    }
    CHECK(fs::is_empty(one.base / "tmp"));
    one.table.remove(own);
    one.table.remove(own); // another process has removed it
    CHECK(one.table.list().size() == 1);
    CHECK_FALSE(one.table.find(own.id));
    CHECK(fs::is_empty(one.base / "tmp"));
}

TEST_CASE("the identity of a mount is added to its record once it is known")
{
    opened one;
    const auto sync = GENERATE(durability::none, durability::batch, durability::full);
    auto record = one.table.add(one.image, "", true, {}, sync);
    CHECK(record.is_volatile == (sync == durability::none));
    CHECK(record.identity.source == record.source());
    CHECK((record.identity.id == 0 && record.identity.device == 0));
    record.identity.id = ~0ull;
    record.identity.device = 57;
    one.table.update(record, sync);
    CHECK(one.table.find(record.id)->identity == record.identity);
    one.table.begin(record, sync);
    CHECK(one.table.find(record.id)->identity.id == 0);
    CHECK(entries(one.base / "mounts" / record.id) == std::set<std::string>{"empty", "record.json", "target", "upper", "work"});
}

TEST_CASE("a record of the first version can be read, and its mount is identified by its source")
{
    opened one;
    const auto record = one.add("/old", true);
    std::ofstream(one.base / "mounts" / record.id / "record.json")
        << R"({"boot_id":")" << overmount::detail::boot_id() << R"(","id":")" << record.id << R"(","image":")" << one.image.string()
        << R"(","mount_namespace":4026531832,"target":"/old","writable":true})";
    const auto old = one.table.find(record.id).value();
    CHECK(old.target == "/old");
    CHECK(old.writable);
    CHECK_FALSE(old.is_volatile);
    CHECK(old.lowers.empty());
    CHECK(old.identity.source == "overmount-" + record.id);
    CHECK(old.identity.mount_namespace == 4026531832);
    CHECK((old.identity.id == 0 && old.identity.device == 0));
}

TEST_CASE("an unreadable record hides no other record, and may name any image")
{
    opened one;
    const auto good = one.add("", false), bad = one.add("", false);
    const auto file = one.base / "mounts" / bad.id / "record.json";
    for (const bool is_directory : {true, false}) {
        fs::remove_all(file);
        if (is_directory)
            fs::create_directory(file);
        else
            std::ofstream(file) << "{";
        std::vector<overmount::error> damaged;
        const auto listed = one.table.list(&damaged);
        REQUIRE(listed.size() == 1);
        CHECK(listed[0].id == good.id);
        REQUIRE(damaged.size() == 1);
        CHECK(damaged[0].subject() == "mounts/" + bad.id + "/record.json");
    }
    try {
        static_cast<void>(one.table.in_use(digest::of("another"), says(false)));
        FAIL("nothing was thrown");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::corrupt_repository);
        CHECK(failure.subject() == (one.base / "mounts" / bad.id / "record.json").string());
    }
}

TEST_CASE("the policy's test gets the upper directory and a temporary work directory")
{
    opened one;
    const auto writable = one.add("", true), read_only = one.add("", false);
    int asked = 0;
    const auto test = [&](const mount_identity& identity, const mount_spec& probe) {
        ++asked;
        CHECK(probe.upper().has_value() == (identity == writable.identity));
        if (probe.upper()) {
            CHECK(fs::equivalent(probe.upper()->name(), one.base / "mounts" / writable.id / "upper"));
            CHECK(fs::is_empty(probe.work()->name()));
        }
        return false;
    };
    for (const auto& record : {writable, read_only})
        CHECK(one.table.state(record, test) == mount_state::stopped);
    CHECK(asked == 2);
    CHECK(one.table.state(writable, says(true)) == mount_state::alive);
    CHECK(one.table.uses_upper(writable, says(true)));
    CHECK_FALSE(one.table.uses_upper(writable, says(false)));
    CHECK_FALSE(one.table.uses_upper(read_only, says(true)));
    CHECK(entries(one.base / "mounts" / writable.id) == std::set<std::string>{"empty", "record.json", "target", "upper", "work"});
}

TEST_CASE("a mount of another boot is stopped, whatever the policy says")
{
    opened one;
    auto record = one.add("", true);
    record.identity.boot = "another";
    CHECK(one.table.state(record, says(true)) == mount_state::stopped);
}

TEST_CASE("a mount that cannot be tested counts as alive")
{
    opened one;
    const auto record = one.add("", true);
    fs::remove_all(one.base / "mounts" / record.id / "upper");
    CHECK(one.table.state(record, says(false)) == mount_state::alive);
    CHECK(one.table.state(record, [](auto&, auto&) -> bool { throw overmount::error(errc::mount_failed); }) == mount_state::alive);
}

TEST_CASE("a sweep removes records of stopped read-only mounts, and no upper directory")
{
    opened one;
    const auto dead = one.add("", false), dead_writable = one.add("", true), old = one.add("", false);
    const auto old_writable = one.add("", true), alive = one.add("/alive", false);
    std::ofstream(one.base / "mounts" / dead_writable.id / "upper/work") << "of a day";
    for (const auto& record : {old, old_writable})
        change(one, record, record.identity.boot, "another");
    one.table.sweep([&](const mount_identity& identity, const mount_spec&) { return identity == alive.identity; });
    CHECK_FALSE(is_there(one, dead));
    CHECK_FALSE(is_there(one, old));
    CHECK(is_there(one, alive));
    CHECK(is_there(one, old_writable));
    CHECK(fs::exists(one.base / "mounts" / dead_writable.id / "upper/work"));
    CHECK(fs::is_empty(one.base / "tmp"));
}

TEST_CASE("an image is in use by live mounts and by kept upper directories")
{
    opened one;
    const auto read_only = one.add("", false);
    CHECK(one.table.in_use(one.image, says(true))->id == read_only.id);
    CHECK_FALSE(one.table.in_use(one.image, says(false)));
    CHECK_FALSE(one.table.in_use(digest::of("another"), says(true)));
    const auto writable = one.add("", true);
    CHECK(one.table.in_use(one.image, says(false))->id == writable.id);
}

TEST_CASE("the record of a layer's mount names the layer and no image")
{
    opened one;
    const chain_id chain(digest::of("layer"));
    const auto made = one.table.add(chain, "", true, {"sha256/aa/rootfs"}, durability::none);
    const auto read = one.table.find(made.id);
    REQUIRE(read);
    for (const auto& record : {made, *read}) {
        CHECK(record.layer == chain);
        CHECK_FALSE(record.image);
        CHECK(std::get<chain_id>(record.subject()) == chain);
        CHECK(record.lowers == std::vector<std::string>{"sha256/aa/rootfs"});
    }
    CHECK(std::get<digest>(one.add("", false).subject()) == one.image);
    CHECK_FALSE(one.table.in_use(chain.value(), says(true))); // the same digest as an image ID
    // A record of both, or of neither: it is unknown what it needs.
    const fs::path file = one.base / "mounts" / made.id / "record.json";
    std::string text;
    std::getline(std::ifstream(file), text);
    const std::string name = "\"layer\":\"" + chain.string() + "\",";
    for (const std::string& instead : {std::string(), name + "\"image\":\"" + chain.string() + "\","}) {
        std::string changed = text;
        changed.replace(changed.find(name), name.size(), instead);
        std::ofstream(file) << changed;
        try {
            static_cast<void>(one.table.find(made.id));
            FAIL("nothing was thrown");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::corrupt_repository);
        }
    }
}

TEST_CASE("the lock of a mount record has one holder at a time")
{
    opened one;
    const auto record = one.add("", true);
    {
        const auto lock = one.table.try_lock(record);
        REQUIRE(lock);
        CHECK_FALSE(one.table.try_lock(record));
    }
    CHECK(one.table.try_lock(record));
    one.table.remove(record);
    try {
        static_cast<void>(one.table.try_lock(record));
        FAIL("nothing was thrown");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::mount_not_found);
    }
}

TEST_CASE("a directory is locked, whichever path is used for it")
{
    const scratch_directory scratch;
    fs::create_directories(scratch / "real/target");
    fs::create_directory_symlink(scratch / "real", scratch / "link");
    const std::string real = (scratch / "real/target").string();
    const auto resolved = [&](const char* path) { return overmount::detail::resolved_target((scratch / path).string()); };
    for (const char* path : {"real/target", "real/target/", "real/target//", "link/target", "link/../real/target", "real/target/.",
                             "link/target/../target/"})
        CHECK(resolved(path) == real);
    CHECK(resolved("link") == (scratch / "link").string()); // mounting at a symbolic link is refused
    CHECK(resolved("none/below") == (scratch / "none/below").string());
    const auto lock = overmount::detail::try_lock_target(resolved("link/target"));
    CHECK(lock);
    CHECK_FALSE(overmount::detail::try_lock_target(real));
    CHECK(overmount::detail::try_lock_target((scratch / "real").string()));
}

TEST_CASE("only a volatile mount of an earlier boot may be incomplete")
{
    opened one;
    auto record = one.add("", true);
    CHECK_FALSE(mount_table::may_be_incomplete(record));
    record.identity.boot = "another";
    CHECK(mount_table::may_be_incomplete(record));
    record.is_volatile = false;
    CHECK_FALSE(mount_table::may_be_incomplete(record));
}

TEST_CASE("the mark of a volatile mount is removed before it is mounted again")
{
    opened one;
    const auto record = one.add("", true);
    one.table.prepare_again(record, true); // it was never mounted
    const auto mark = one.base / "mounts" / record.id / "work/work/incompat/volatile";
    fs::create_directories(mark);
    std::ofstream(mark / "dirty");
    one.table.prepare_again(record, GENERATE(false, true));
    CHECK_FALSE(fs::exists(mark));
    CHECK(fs::exists(one.base / "mounts" / record.id / "work/work"));
    CHECK(entries(one.base / "mounts" / record.id) == std::set<std::string>{"empty", "record.json", "target", "upper", "work"});
}

TEST_CASE("a mount spec without an upper directory has at least two lower directories")
{
    opened one;
    const diff_id diff(digest::of("diff"));
    const auto top = chain_id::of(diff);
    put_layer(one, top, {diff, std::nullopt});
    const auto read_only = one.add("", false), writable = one.add("", true);
    const auto size = [&](const mount_record& record, const std::vector<stacked_layer>& stack) {
        const auto spec =
            one.table.spec_of(record, stack.empty() ? std::nullopt : std::optional(top), stack);
        CHECK_NOTHROW(spec.validate());
        CHECK(spec.source() == record.source());
        CHECK(spec.upper().has_value() == record.writable);
        CHECK(spec.volatile_() == record.is_volatile);
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

TEST_CASE("the upper directory has the attributes of the topmost layer's root")
{
    opened one;
    const diff_id diff(digest::of("diff"));
    put_layer(one, chain_id::of(diff), {diff, std::nullopt});
    const std::vector<stacked_layer> stack{layer(one.base / "diffs/a")};
    REQUIRE(::chmod((one.base / "diffs/a").c_str(), 01751) == 0);
    const timespec times[2]{{5, 6}, {7, 8}};
    REQUIRE(::utimensat(AT_FDCWD, (one.base / "diffs/a").c_str(), times, 0) == 0);
    const auto record = one.add("", true);
    one.table.prepare_upper(record, chain_id::of(diff), stack);
    struct stat status;
    REQUIRE(::stat((one.base / "mounts" / record.id / "upper").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777u) == 01751u);
    CHECK(status.st_mtim.tv_sec == 7);
    CHECK(status.st_mtim.tv_nsec == 8);
}

TEST_CASE("a chain's correction is created once")
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
    CHECK(one.table.ensure_correction(needed, whole)); // the note of the first time
    CHECK(fs::is_directory(one.base / overmount::detail::layer_path(needed) / correction_of_this_boot()));
    CHECK_FALSE(one.table.ensure_correction(plain, whole));
    CHECK_FALSE(one.table.ensure_correction(plain, implied));
    CHECK_FALSE(fs::exists(one.base / overmount::detail::layer_path(plain) / correction_of_this_boot()));
    CHECK(fs::is_empty(one.base / "tmp"));
}

TEST_CASE("the corrections of exactly the chains with one of the given diffs are forgotten")
{
    opened one;
    const auto diff = [](const char* name) { return diff_id(digest::of(name)); };
    std::map<std::string, chain_id> chains; // keyed by their diffs
    for (const std::string name : {"a", "ab", "abc", "b", "c", "cd", "cde", "e", "ef"}) {
        const diff_id top = diff(name.substr(name.size() - 1).c_str());
        const auto below = chains.find(name.substr(0, name.size() - 1));
        const chain_id chain = below == chains.end() ? chain_id::of(top) : chain_id::of(below->second, top);
        put_layer(one, chain, {top, below == chains.end() ? std::nullopt : std::optional(below->second)});
        chains.emplace(name, chain);
        one.table.ensure_correction(chain, {layer(one.base / "diffs/whole")});
    }
    one.table.forget_corrections({});
    for (const auto& [name, chain] : chains)
        CHECK(one.table.has_correction_note(chain));
    one.table.forget_corrections({diff("b"), diff("d")});
    for (const auto& [name, chain] : chains) {
        CAPTURE(name);
        CHECK(one.table.has_correction_note(chain) == (name.find_first_of("bd") == std::string::npos));
    }
}

TEST_CASE("a note that is damaged or of another boot is ignored, and written again")
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
        fs::remove_all(note.parent_path() / correction_of_this_boot()); // a power cut may also remove the correction, or leave a part of it
        fs::create_directories(note.parent_path() / correction_of_this_boot() / "part");
        std::ofstream(note) << damaged;
        CHECK_FALSE(one.table.has_correction_note(chain));
        CHECK(one.table.ensure_correction(chain, implied));
        CHECK(text() == whole);
        CHECK_FALSE(fs::exists(note.parent_path() / correction_of_this_boot() / "part"));
        CHECK(one.table.has_correction_note(chain));
    }
}
