// What other programs and processes can do to mounts, and what is kept then.
#include <overmount/mount/mountinfo.hpp>
#include <overmount/overmount.hpp>
#include <overmount/repository/records/mount_table.hpp>
#include <overmount/repository/state.hpp>

#include "support/catch.hpp"
#include "support/device_numbers.hpp"
#include "support/image_builder.hpp"
#include "support/may_mount.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fs = std::filesystem;
namespace asio = boost::asio;
using ::test::get;
using ::test::store_result;

using overmount::commit_options;
using overmount::condition;
using overmount::durability;
using overmount::errc;
using overmount::mount_options;
using overmount::mount_record;
using overmount::mount_state;
using overmount::overlay_mount;
using overmount::repository_options;
using overmount::test::image_source;
using overmount::test::low_device_numbers;
using overmount::test::may_mount;
using overmount::test::mounts_below;
using overmount::test::oci_layout_writer;
using overmount::test::run_quietly;
using overmount::test::scratch_directory;
using overmount::test::tar_writer;

namespace {

std::string read(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

void write(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

// A repository with an image of one layer, and a directory to mount at. The device numbers of its mounts are not reused.
class place
{
public:
    explicit place(durability sync = durability::batch) : sync_(sync), repository(open())
    {
        image_source source{.tags = {"example.org/test:1"}};
        source.layers.push_back({tar_writer().file("below", "below").finish()});
        oci_layout_writer writer;
        writer.add(source);
        writer.finish().write_directory(scratch / "source");
        fs::create_directory(scratch / "target");
        const overmount::import_options options = overmount::import_options().wanted({"linux", "amd64"});
        image.emplace(get(repository.import_image(overmount::oci_layout((scratch / "source").string()), options)));
    }

    [[nodiscard]] overmount::repository open() const
    {
        return get(overmount::repository::open(scratch / "repo", repository_options().workers(2).sync(sync_)));
    }
    [[nodiscard]] std::string target() const { return (scratch / "target").string(); }
    [[nodiscard]] fs::path upper(const std::string& id) const { return scratch / "repo/mounts" / id / "upper"; }
    [[nodiscard]] overmount::mount mount(mount_options options)
    {
        low_device_numbers low;
        return get(image->mount(std::move(options)));
    }
    [[nodiscard]] overmount::mount mount_writable() { return mount(mount_options().writable(true).target(target())); }
    [[nodiscard]] mount_record record(const std::string& id) const
    {
        const auto all = repository.mounts();
        const auto found = std::find_if(all.begin(), all.end(), [&](const mount_record& one) { return one.id == id; });
        REQUIRE(found != all.end());
        return *found;
    }
    [[nodiscard]] mount_state state(const std::string& id) const { return get(repository.state_of(record(id))); }
    // Changes the record as if the machine had gone down since.
    void reboot(const std::string& id) const
    {
        const auto file = scratch / "repo/mounts" / id / "record.json";
        std::string text = read(file);
        const std::string boot = record(id).identity.boot;
        text.replace(text.find(boot), boot.size(), "of another day");
        write(file, text);
    }

private:
    durability sync_;

public:
    scratch_directory scratch;
    overmount::repository repository;
    std::optional<overmount::image> image;
};

template <class Operation>
boost::system::error_code failure_of(Operation operation)
{
    try {
        operation();
    } catch (const overmount::error& failure) {
        return failure.code();
    }
    return {};
}

bool administrator_unmounts(const std::string& target) { return run_quietly({"umount", target.c_str()}) == 0; }

} // namespace

TEST_CASE("a second writable mount at the same target is refused, and the first keeps what was written", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto first = at.mount_writable();
    write(first.target() + "/new", "written");
    fs::create_directory_symlink(at.scratch / "target", at.scratch / "link");
    fs::create_directory(at.scratch / "real");
    fs::create_directory_symlink(at.scratch.path(), at.scratch / "real/parent");
    for (const std::string& target : {at.target(), at.target() + "/", at.target() + "/../target", (at.scratch / "real/parent/target").string()}) {
        CAPTURE(target);
        CHECK(failure_of([&] { static_cast<void>(get(at.image->mount(mount_options().writable(true).target(target)))); }) ==
              errc::mount_exists);
    }
    CHECK(failure_of([&] { static_cast<void>(get(at.image->mount(mount_options().target(at.target())))); }) == errc::mount_exists);
    CHECK(at.repository.mounts().size() == 1);
    static_cast<void>(at.open());
    CHECK(read(at.upper(first.id()) / "new") == "written");
    get(first.unmount());
    CHECK(at.repository.mounts().empty());
    CHECK(mounts_below(at.scratch.path()).empty());
}

TEST_CASE("of two simultaneous mounts at one target only one succeeds", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    const auto other = at.open();
    const auto same = other.images().front();
    for (int round = 0; round < 10; ++round) {
        asio::io_context context;
        std::vector<std::optional<overmount::mount>> made(4);
        std::vector<boost::system::error_code> failures;
        for (std::size_t i = 0; i < made.size(); ++i) {
            auto operation = (i % 2 == 0 ? *at.image : same).mount(mount_options().writable(true).target(at.target()));
            asio::co_spawn(context, store_result(std::move(operation), made[i]), [&](std::exception_ptr failure) {
                if (failure)
                    failures.push_back(failure_of([&] { std::rethrow_exception(failure); }));
            });
        }
        context.run_for(std::chrono::seconds(60));
        CHECK(std::count_if(made.begin(), made.end(), [](const auto& one) { return one.has_value(); }) == 1);
        CHECK(failures.size() == 3);
        for (const auto& failure : failures)
            CHECK(failure == errc::mount_exists);
        CHECK(mounts_below(at.scratch.path()).size() == 1);
        for (auto& one : made)
            if (one)
                get(one->unmount());
        CHECK(at.repository.mounts().empty());
    }
}

TEST_CASE("a mount waits for the lock of its target without blocking its worker thread", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    const auto one_worker = get(overmount::repository::open(at.scratch / "repo", repository_options().workers(1)));
    const auto image = one_worker.images().front();
    std::optional<overmount::unique_fd> lock = overmount::detail::try_lock_target(at.target());
    REQUIRE(lock);
    asio::io_context context;
    std::optional<overmount::mount> made, elsewhere;
    const auto fail = [](std::exception_ptr failure) { CHECK_FALSE(failure); };
    asio::co_spawn(context, store_result(image.mount(mount_options().target(at.target())), made), fail);
    asio::co_spawn(context, store_result(image.mount(), elsewhere), fail);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!elsewhere && std::chrono::steady_clock::now() < end)
        context.run_one();
    REQUIRE(elsewhere);
    for (int i = 0; i < 10; ++i)
        context.run_one();
    CHECK_FALSE(made);
    lock.reset();
    context.run_for(std::chrono::seconds(60));
    CHECK(made);
}

TEST_CASE("when its object is destroyed, a covered mount stays, and so does the mount that covers it", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    const bool writable = GENERATE(false, true);
    std::string id;
    {
        auto mounted = at.mount(mount_options().writable(writable).target(at.target()));
        id = mounted.id();
        REQUIRE(run_quietly({"mount", "-t", "tmpfs", "strange", at.target().c_str()}) == 0);
        write(at.target() + "/strange", "strange");
        CHECK(failure_of([&] { get(mounted.unmount()); }) == errc::mount_covered);
    }
    CHECK(read(at.target() + "/strange") == "strange");
    CHECK(mounts_below(at.scratch.path()).size() == 2);
    CHECK(at.state(id) == mount_state::alive);
    static_cast<void>(at.open());
    REQUIRE(administrator_unmounts(at.target()));
    CHECK(read(at.target() + "/below") == "below");
    get(at.repository.unmount(at.record(id)));
    CHECK(mounts_below(at.scratch.path()).empty());
    CHECK(at.repository.mounts().empty());
}

TEST_CASE("what was written survives an administrator's umount and the next open: it can be mounted, committed or removed", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    const std::string id = mounted.id();
    write(mounted.target() + "/new", "written");
    CHECK(at.state(id) == mount_state::alive);
    CHECK(failure_of([&] { static_cast<void>(get(at.repository.mount_again(at.record(id)))); }) == errc::mount_exists);
    mounted.keep();
    REQUIRE(administrator_unmounts(at.target()));
    static_cast<void>(at.open());
    CHECK(at.state(id) == mount_state::stopped);
    CHECK(read(at.upper(id) / "new") == "written");
    CHECK(failure_of([&] { get(at.repository.remove_image(at.image->id())); }) == errc::image_in_use);
    SECTION("mounted again at the same target")
    {
        const fs::path root = at.upper(id);
        REQUIRE(::chmod(root.c_str(), 0701) == 0); // a mode set by its user
        auto again = get(at.repository.mount_again(at.record(id)));
        CHECK(again.id() == id);
        CHECK(again.target() == at.target());
        CHECK(read(at.target() + "/new") == "written");
        CHECK(read(at.target() + "/below") == "below");
        struct stat status;
        REQUIRE(::stat(at.target().c_str(), &status) == 0);
        CHECK((status.st_mode & 07777u) == 0701u);
        CHECK(at.state(id) == mount_state::alive);
        CHECK(at.repository.mounts().size() == 1);
        get(again.unmount());
    }
    SECTION("mounted again at another target")
    {
        fs::create_directory(at.scratch / "elsewhere");
        const auto elsewhere = (at.scratch / "elsewhere").string();
        auto again = get(at.repository.mount_again(at.record(id), mount_options().target(elsewhere)));
        CHECK(read(elsewhere + "/new") == "written");
        CHECK(at.record(id).target == elsewhere);
        get(again.unmount());
    }
    SECTION("at a target in use it stays stopped")
    {
        const auto before = at.record(id);
        // Without reserved numbers: the new mount gets a number that was freed, but not that of the stopped mount.
        auto other = get(at.image->mount(mount_options().writable(true).target(at.target())));
        CHECK(at.state(id) == mount_state::stopped);
        CHECK(failure_of([&] { static_cast<void>(get(at.repository.mount_again(before))); }) == errc::mount_exists);
        CHECK(failure_of([&] {
                  static_cast<void>(get(at.repository.mount_again(before, mount_options().target(at.target() + "/none"))));
              }) == errc::mount_failed);
        CHECK(at.record(id).identity == before.identity);
        CHECK(at.record(id).target == before.target);
        CHECK(read(at.upper(id) / "new") == "written");
        get(other.unmount());
        get(at.repository.unmount(before));
    }
    SECTION("committed")
    {
        const auto made = get(at.repository.commit(at.record(id)));
        const auto shown = get(made.mount());
        CHECK(read(shown.target() + "/new") == "written");
        get(at.repository.unmount(at.record(id)));
    }
    SECTION("removed")
    {
        get(at.repository.unmount(at.record(id)));
    }
    CHECK_FALSE(fs::exists(at.upper(id)));
    CHECK(mounts_below(at.scratch.path()).empty());
    CHECK(fs::is_empty(at.scratch / "repo/tmp"));
}

TEST_CASE("a destroyed object leaves what was written, and nothing of a read-only mount", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    std::string id;
    {
        const auto mounted = at.mount_writable();
        const auto read_only = at.mount(mount_options());
        id = mounted.id();
        write(mounted.target() + "/new", "written");
    }
    CHECK(mounts_below(at.scratch.path()).empty());
    REQUIRE(at.repository.mounts().size() == 1);
    CHECK(at.state(id) == mount_state::stopped);
    CHECK(read(at.upper(id) / "new") == "written");
}

TEST_CASE("the record of a read-only mount that an administrator unmounted is removed", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount(mount_options().target(at.target()));
    const auto record = at.record(mounted.id());
    mounted.keep();
    REQUIRE(administrator_unmounts(at.target()));
    CHECK(get(at.repository.state_of(record)) == mount_state::stopped);
    CHECK(failure_of([&] { static_cast<void>(get(at.repository.mount_again(record))); }) == errc::mount_read_only);
    static_cast<void>(get(at.repository.collect()));
    CHECK(at.repository.mounts().empty());
}

TEST_CASE("a mount in use is not unmounted, but can be unmounted as soon as it is free", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    write(mounted.target() + "/new", "written");
    {
        const std::ifstream inside(mounted.target() + "/below");
        for (int i = 0; i < 2; ++i)
            CHECK(failure_of([&] { get(mounted.unmount()); }) == condition::conflict);
        CHECK(read(mounted.target() + "/new") == "written");
    }
    get(mounted.unmount());
    CHECK(mounts_below(at.scratch.path()).empty());
    CHECK(at.repository.mounts().empty());
    CHECK(failure_of([&] { get(mounted.unmount()); }) == errc::mount_not_found);
}

TEST_CASE("after a failed unmount the object still owns the mount", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    {
        auto mounted = at.mount_writable();
        const std::ifstream inside(mounted.target() + "/below");
        CHECK(failure_of([&] { get(mounted.unmount()); }) == condition::conflict);
        CHECK(mounted);
        CHECK(mounts_below(at.scratch.path()).size() == 1);
    }
    CHECK(mounts_below(at.scratch.path()).empty());
}

TEST_CASE("an object that is assigned another mount detaches its own, and an object without a mount reports that", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    overmount::mount mounted;
    CHECK_FALSE(mounted);
    {
        auto first = at.mount_writable();
        mounted = std::move(first);
        CHECK_FALSE(first);
        CHECK(failure_of([&] { get(first.unmount()); }) == errc::invalid_handle);
    }
    CHECK(mounted);
    CHECK(mounts_below(at.scratch.path()).size() == 1);
    mounted = overmount::mount();
    CHECK(mounts_below(at.scratch.path()).empty());
    CHECK(at.repository.mounts().size() == 1); // stopped: what was written is kept
    mounted = get(at.repository.mount_again(at.repository.mounts().front()));
    get(mounted.unmount());
    CHECK_FALSE(mounted);
    CHECK(mounted.target() == at.target());
    mounted = at.mount_writable();
    mounted.keep();
    CHECK_FALSE(mounted);
    CHECK(failure_of([&] { get(mounted.unmount()); }) == errc::mount_not_found);
    get(at.repository.unmount(at.repository.mounts().front()));
    CHECK(at.repository.mounts().empty());
}

TEST_CASE("a mount that a process still uses after umount -l is alive until the process ends", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    const auto record = at.record(mounted.id());
    mounted.keep();
    {
        std::ofstream inside(at.target() + "/new");
        REQUIRE(run_quietly({"umount", "-l", at.target().c_str()}) == 0);
        CHECK(at.state(record.id) == mount_state::alive);
        CHECK(failure_of([&] { get(at.repository.unmount(record)); }) == errc::mount_not_found);
        CHECK(failure_of([&] { static_cast<void>(get(at.repository.mount_again(record))); }) == errc::mount_exists);
        inside << "late";
    }
    CHECK(at.state(record.id) == mount_state::stopped);
    CHECK(read(at.upper(record.id) / "new") == "late");
    get(at.repository.unmount(record));
    CHECK(at.repository.mounts().empty());
}

TEST_CASE("a mount with a copy in another namespace is unmounted here, and its upper directory stays", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    write(mounted.target() + "/new", "written");
    const auto copy = (at.scratch / "copy").string();
    fs::create_directory(copy);
    REQUIRE(run_quietly({"mount", "--bind", at.target().c_str(), copy.c_str()}) == 0);
    CHECK(failure_of([&] { get(mounted.unmount()); }) == condition::conflict);
    CHECK(fs::is_empty(at.target()));
    CHECK(read(copy + "/new") == "written");
    CHECK(read(at.upper(mounted.id()) / "new") == "written");
    REQUIRE(administrator_unmounts(copy));
    get(mounted.unmount());
    CHECK(at.repository.mounts().empty());
}

TEST_CASE("a mount that was moved is found where it is", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    const char* top = at.scratch.path().c_str();
    REQUIRE((run_quietly({"mount", "--bind", top, top}) == 0 && run_quietly({"mount", "--make-private", top}) == 0));
    auto mounted = at.mount_writable();
    const auto elsewhere = (at.scratch / "elsewhere").string();
    fs::create_directory(elsewhere);
    REQUIRE(run_quietly({"mount", "--move", at.target().c_str(), elsewhere.c_str()}) == 0);
    auto other = at.mount_writable(); // the target is free
    const auto names = [&](const std::string& name) {
        std::string out;
        for (const auto& record : at.repository.find_mounts(name))
            out += record.id + " ";
        return out;
    };
    CHECK(names(elsewhere + "/") == mounted.id() + " ");
    CHECK(names(at.target()) == other.id() + " ");
    CHECK(names(mounted.id().substr(0, 8)) == mounted.id() + " ");
    CHECK(names("nowhere").empty());
    get(mounted.unmount());
    CHECK(fs::is_empty(elsewhere));
    CHECK(at.state(other.id()) == mount_state::alive);
    get(other.unmount());
}

TEST_CASE("mounts of a repository without syncs are volatile, and are synced before they are mounted again", "[mounts]")
{
    NEEDS_MOUNTS();
    place at(durability::none);
    const auto is_volatile = [&] {
        const auto now = overmount::mountinfo::read();
        const auto* entry = now.find_by_target(at.target());
        REQUIRE(entry != nullptr);
        return std::any_of(entry->super_options.begin(), entry->super_options.end(),
                           [](const std::string& option) { return option == "volatile" || option == "fsync=volatile"; });
    };
    std::string id;
    {
        const auto mounted = at.mount_writable();
        id = mounted.id();
        write(mounted.target() + "/new", "written");
        CHECK(is_volatile());
        CHECK(at.record(id).is_volatile);
    }
    const auto mark = at.scratch / "repo/mounts" / id / "work/work/incompat/volatile";
    CHECK(fs::exists(mark));
    SECTION("by a repository without syncs")
    {
        const auto again = get(at.repository.mount_again(at.record(id)));
        CHECK(read(again.target() + "/new") == "written");
        CHECK(is_volatile());
    }
    SECTION("by a repository with syncs")
    {
        const auto careful = get(overmount::repository::open(at.scratch / "repo", repository_options().workers(1)));
        const auto again = get(careful.mount_again(at.record(id)));
        CHECK(read(again.target() + "/new") == "written");
        CHECK_FALSE(is_volatile());
        CHECK_FALSE(at.record(id).is_volatile);
        CHECK_FALSE(fs::exists(mark));
    }
    SECTION("but not after the machine went down")
    {
        at.reboot(id);
        const auto record = at.record(id);
        CHECK(at.state(id) == mount_state::stopped);
        CHECK(failure_of([&] { static_cast<void>(get(at.repository.mount_again(record))); }) == errc::mount_not_durable);
        CHECK(failure_of([&] { static_cast<void>(get(at.repository.commit(record))); }) == errc::mount_not_durable);
        CHECK(at.record(id).identity == record.identity);
        CHECK(at.repository.images().size() == 1);
        SECTION("unless the options of the mount accept that")
        {
            const auto again = get(at.repository.mount_again(record, mount_options().accept_not_durable(true)));
            CHECK(read(again.target() + "/new") == "written");
        }
        SECTION("unless the options of the commit accept that")
        {
            static_cast<void>(get(at.repository.commit(record, commit_options().accept_not_durable(true))));
            CHECK(at.repository.images().size() == 2);
        }
        SECTION("it can be removed")
        {
            get(at.repository.unmount(record));
            CHECK(at.repository.mounts().empty());
        }
    }
}

TEST_CASE("a writable mount that a reboot ended is mounted again", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    std::string id;
    {
        const auto mounted = at.mount_writable();
        id = mounted.id();
        write(mounted.target() + "/new", "written");
    }
    at.reboot(id);
    CHECK(at.state(id) == mount_state::stopped);
    static_cast<void>(at.open());
    const auto again = get(at.repository.mount_again(at.record(id)));
    CHECK(read(again.target() + "/new") == "written");
    CHECK(at.state(id) == mount_state::alive);
}

TEST_CASE("a record names the trees that were mounted", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    const auto mounted = at.mount(mount_options());
    const auto record = at.record(mounted.id());
    REQUIRE(record.lowers.size() == 1);
    CHECK(fs::is_regular_file(at.scratch / "repo/diffs" / record.lowers.front() / "below"));
}

TEST_CASE("a mount whose record cannot be read is reported, and hides no other mount", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto good = at.mount_writable();
    const auto bad = at.mount(mount_options());
    const fs::path file = at.scratch / "repo/mounts" / bad.id() / "record.json";
    const std::string whole = read(file);
    write(file, whole.substr(0, whole.size() / 2));
    std::vector<std::string> named;
    const auto listed = at.repository.mounts([&named](const overmount::error& failure) {
        CHECK(failure.code() == errc::corrupt_repository);
        named.push_back(failure.subject());
    });
    REQUIRE(listed.size() == 1);
    CHECK(listed[0].id == good.id());
    CHECK(named == std::vector<std::string>{"mounts/" + bad.id() + "/record.json"});
    CHECK(at.repository.mounts().size() == 1);
    CHECK(at.repository.find_mounts(good.id()).size() == 1);
    get(at.repository.unmount(listed[0]));
    write(file, whole); // so that the other mount can be unmounted
}

TEST_CASE("a stopped mount with a damaged layer is mounted again only if the options accept that", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    const std::string id = mounted.id();
    write(mounted.target() + "/new", "written");
    mounted.keep();
    REQUIRE(administrator_unmounts(at.target()));
    const fs::path diffs = at.scratch / "repo/diffs/sha256";
    write(fs::directory_iterator(diffs)->path() / "rootfs/below", "BELOW");
    REQUIRE_FALSE(get(at.repository.check()).ok());
    const auto before = at.record(id);
    CHECK(failure_of([&] { static_cast<void>(get(at.repository.mount_again(before))); }) == errc::diff_damaged);
    CHECK(at.state(id) == mount_state::stopped);
    CHECK(at.record(id).identity == before.identity);
    CHECK(mounts_below(at.scratch.path()).empty());
    auto again = get(at.repository.mount_again(before, mount_options().accept_damaged(true)));
    CHECK(at.state(id) == mount_state::alive);
    CHECK(read(at.target() + "/below") == "BELOW");
    CHECK(read(at.target() + "/new") == "written");
    write(at.target() + "/more", "more");
    CHECK(read(at.upper(id) / "more") == "more");
    get(again.unmount());
    CHECK_FALSE(fs::exists(at.upper(id)));
}

// A correction is exchanged below existing mounts, and while another process mounts: each mount shows it.
TEST_CASE("a correction is exchanged while another process mounts", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    image_source source{.tags = {"example.org/corrected:1"}};
    source.layers.push_back({tar_writer().directory("d", {.mode = 0710}).finish()});
    source.layers.push_back({tar_writer().file("d/f", "text").finish()}); // the layer only implies the directory
    oci_layout_writer writer;
    writer.add(source);
    writer.finish().write_directory(at.scratch / "corrected");
    const auto options = overmount::import_options().wanted({"linux", "amd64"});
    const auto image = get(at.repository.import_image(overmount::oci_layout((at.scratch / "corrected").string()), options));
    const auto top = image.layers().front();
    const pid_t mounter = ::fork();
    REQUIRE(mounter >= 0);
    if (mounter == 0) {
        int wrong = 0;
        try {
            const auto mine = at.open().find_image("example.org/corrected:1");
            for (int round = 0; round < 40; ++round) {
                auto mounted = get(mine.mount(mount_options().target(at.target())));
                struct stat status{};
                wrong += ::stat((at.target() + "/d").c_str(), &status) != 0 || (status.st_mode & 07777u) != 0710u ||
                         read(at.target() + "/d/f") != "text";
                get(mounted.unmount());
            }
        } catch (const std::exception&) {
            wrong = 100;
        }
        ::_exit(wrong);
    }
    const auto records = std::make_shared<overmount::detail::store>(at.scratch / "repo", "directory", false);
    overmount::detail::mount_table table(records);
    const overmount::detail::repository_state<overmount::on_disk_storage> state(records, repository_options(), overmount::worker_pool(1));
    int status = 0, exchanged = 0;
    for (; ::waitpid(mounter, &status, WNOHANG) == 0; ++exchanged)
        table.remake_correction(top, state.stack_of(top));
    CHECK(exchanged > 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(at.repository.mounts().empty());
    CHECK(mounts_below(at.scratch.path()).empty());
    CHECK_FALSE(table.lost_correction(top, state.stack_of(top)));
}

TEST_CASE("a running mount that an older version recorded is recognised", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    const std::string id = mounted.id();
    mounted.keep();
    const auto record = at.record(id);
    write(at.scratch / "repo/mounts" / id / "record.json",
          R"({"boot_id":")" + record.identity.boot + R"(","id":")" + id + R"(","image":")" + record.image->string() +
              R"(","mount_namespace":)" + std::to_string(record.identity.mount_namespace) + R"(,"target":")" + at.target() +
              R"(","writable":true})");
    CHECK(at.state(id) == mount_state::alive);
    static_cast<void>(at.open());
    SECTION("and unmounted")
    {
        get(at.repository.unmount(at.record(id)));
        CHECK(mounts_below(at.scratch.path()).empty());
    }
    SECTION("and recognised as stopped after it was unmounted")
    {
        REQUIRE(administrator_unmounts(at.target()));
        CHECK(at.state(id) == mount_state::stopped);
        get(at.repository.unmount(at.record(id)));
    }
    CHECK(at.repository.mounts().empty());
}
