// What a check reports for each kind of damage to a repository.
#include <overmount/overmount.hpp>
#include <overmount/own_policies.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tree.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <fstream>
#include <future>
#include <iterator>
#include <optional>
#include <set>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::chain_id;
using om::check_options;
using om::check_report;
using om::diff_id;
using om::digest;
using om::finding_kind;
using om::test::image_source;
using om::test::oci_layout_writer;
using om::test::scratch_directory;
using om::test::tar_writer;

#define NEEDS_ROOT()                                                                                         \
    if (::geteuid() != 0)                                                                                    \
    OVERMOUNT_SKIP("unpacking whiteouts needs root")

namespace {

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

// Changes one byte of a file, and keeps its size and time.
void flip(const fs::path& file, std::size_t at)
{
    std::string content = read(file);
    REQUIRE(at < content.size());
    content[at] = static_cast<char>(content[at] ^ 1);
    struct stat status;
    REQUIRE(::stat(file.c_str(), &status) == 0);
    write(file, content);
    const timespec times[] = {status.st_atim, status.st_mtim};
    REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
}

// A tag whose image is lost.
void tag_to_nowhere(const fs::path& base)
{
    const om::detail::store records(base, om::on_disk_storage::form(), false);
    om::detail::record_batch one(records.staging.fd(), om::durability::none);
    records.tag_files.add(one, {"docker.io/library/other:latest", digest::of("nowhere"), {}, {}, {}});
    one.publish();
}

// Layers with everything that is stored in a special way: replaced files, whiteouts, implied directories, links, devices.
std::vector<std::string> odd_layers()
{
    const std::string large(300'000, 'x');
    return {tar_writer()
                .directory("")
                .directory("etc", {.mode = 0700})
                .file("etc/passwd", "root\n")
                .hard_link("etc/same", "etc/passwd")
                .symlink("etc/link", "passwd")
                .file("bin/tool", large, {.mode = 04755, .uid = 3, .gid = 4})
                .file("bin/tool", "again")
                .directory("bin")
                .file("bin/large", large)
                .fifo("fifo")
                .character_device("null", 1, 3)
                .directory("old")
                .file("old/file", "replaced")
                .file("old", "in its place")
                .finish(),
            tar_writer().whiteout("etc/link").opaque("bin").file("bin/new", "").file("deep/er/file", "1").finish(),
            tar_writer().finish()};
}

// A repository with one image of these layers.
template <class Repository>
struct filled
{
    filled()
    {
        image_source source{.tags = {"example.org/test:1"}};
        for (const auto& tar : tars)
            source.layers.push_back({tar});
        oci_layout_writer writer;
        image = writer.add(source);
        writer.finish().write_directory(scratch / "source");
        CHECK(get(repository.import_image(om::oci_layout((scratch / "source").string()),
                                          om::import_options().wanted({"linux", "amd64"})))
                  .id() == image);
    }
    [[nodiscard]] fs::path diff(std::size_t number) const
    {
        return base / "diffs/sha256" / digest::of(tars[number]).hex();
    }
    [[nodiscard]] chain_id chain(std::size_t count) const
    {
        std::vector<diff_id> stack;
        for (std::size_t i = 0; i < count; ++i)
            stack.emplace_back(digest::of(tars[i]));
        return chain_id::of(stack);
    }
    [[nodiscard]] fs::path layer(std::size_t count) const
    {
        return base / "layers/sha256" / chain(count).value().hex();
    }
    [[nodiscard]] check_report check(bool contents = true) const
    {
        auto report = get(repository.check(check_options().contents(contents)));
        CHECK(std::ranges::is_sorted(report.findings));
        for (const char* part : {"tmp", "claims", "leases"}) // the check leaves nothing
            CHECK(fs::is_empty(base / part));
        return report;
    }
    // The check finds nothing else.
    void check_one(finding_kind kind, const std::string& object, const std::string& path, const std::string& word,
                   bool contents = true) const
    {
        const auto report = check(contents);
        for (const auto& one : report.findings)
            UNSCOPED_INFO(to_string(one.kind) << " " << one.object << " " << one.path << ": " << one.detail);
        REQUIRE(report.findings.size() == 1);
        CHECK(report.findings[0].kind == kind);
        CHECK(report.findings[0].object == object);
        CHECK(report.findings[0].path == path);
        CHECK(report.findings[0].detail.find(word) != std::string::npos);
    }
    void check_diff(std::size_t number, const std::string& path, const std::string& word,
                    finding_kind kind = finding_kind::diff_changed) const
    {
        CHECK(check(false).ok());
        check_one(kind, digest::of(tars[number]).string(), path, word);
    }

    scratch_directory scratch;
    fs::path base = scratch / "repository";
    std::vector<std::string> tars = odd_layers();
    digest image = digest::of("");
    // With a pool of its own, since the handle outlives the context that it was opened on.
    Repository repository = get(Repository::open(base, om::repository_options().workers(2)));
};

using on_disk = filled<om::repository>;
using as_tars = filled<om::virtual_repository>;

template <class Change>
void change_and_keep_time(const fs::path& directory, const Change& change)
{
    struct stat status;
    REQUIRE(::stat(directory.c_str(), &status) == 0);
    change();
    const timespec times[] = {status.st_atim, status.st_mtim};
    REQUIRE(::utimensat(AT_FDCWD, directory.c_str(), times, 0) == 0);
}

} // namespace

TEST_CASE("an undamaged repository has no findings")
{
    NEEDS_ROOT();
    const on_disk one;
    const auto report = one.check();
    CHECK(report.ok());
    CHECK(report.images == 1);
    CHECK(report.layers == 3);
    CHECK(report.diffs == 3);
    CHECK(report.tags == 1);
    CHECK(report.manifests == 1);
    CHECK(report.blobs == 0);
    const as_tars other;
    CHECK(other.check().ok());
    CHECK(get(get(om::repository::open(one.scratch / "empty")).check()).ok());
}

TEST_CASE("leftovers of dead processes are not damage")
{
    NEEDS_ROOT();
    const on_disk one;
    write(one.base / "claims" / ("sha256-" + one.image.hex()), "");
    write(one.base / "leases/0123", digest::of("none").string());
    write(one.base / "tmp/work-1/layer-0/rootfs/file", "half");
    write(one.base / "mounts/0123/record.json",
          R"({"id":"0123","image":")" + digest::of("none").string() +
              R"(","target":"/nowhere","writable":false,"boot_id":"another","mount_namespace":1})");
    CHECK(get(one.repository.check()).ok());
}

TEST_CASE("a changed byte of a file is reported with its layer and path")
{
    NEEDS_ROOT();
    const on_disk one;
    flip(one.diff(0) / "rootfs/bin/large", 200'000);
    one.check_diff(0, "bin/large", "its content differs");
}

TEST_CASE("a changed byte of a file that a later entry of the tar replaces is reported")
{
    NEEDS_ROOT();
    const on_disk one;
    std::set<std::string> aside;
    for (const auto& entry : fs::directory_iterator(one.diff(0) / "aside"))
        aside.insert(entry.path().filename());
    REQUIRE(aside == std::set<std::string>{"0", "1"});
    flip(one.diff(0) / "aside/0", 7);
    one.check_diff(0, "bin/tool", "its content differs");
}

TEST_CASE("a file that is missing, new, or has another mode, owner or time is reported")
{
    NEEDS_ROOT();
    const on_disk one;
    const fs::path root = one.diff(0) / "rootfs";
    SECTION("missing")
    {
        change_and_keep_time(root / "bin", [&] { fs::remove(root / "bin/large"); });
        one.check_diff(0, "bin/large", "it is missing");
    }
    SECTION("a whole directory")
    {
        change_and_keep_time(root, [&] { fs::remove_all(root / "bin"); });
        one.check_diff(0, "bin", "it is missing");
    }
    SECTION("new")
    {
        change_and_keep_time(root, [&] { write(root / "new", "1"); });
        one.check_diff(0, "new", "no such entry");
    }
    SECTION("mode")
    {
        fs::permissions(root / "bin/tool", fs::perms(0777));
        one.check_diff(0, "bin/tool", "its mode is 0777, was 0644");
    }
    SECTION("mode of the root")
    {
        fs::permissions(root, fs::perms(0777));
        one.check_diff(0, "", "its mode is 0777");
    }
    SECTION("owner")
    {
        REQUIRE(::lchown((root / "etc/link").c_str(), 5, 6) == 0);
        one.check_diff(0, "etc/link", "its owner is 5:6");
    }
    SECTION("time")
    {
        const timespec times[] = {{1, 0}, {1, 0}};
        REQUIRE(::utimensat(AT_FDCWD, (root / "null").c_str(), times, 0) == 0);
        one.check_diff(0, "null", "its modification time differs");
    }
    SECTION("whiteout")
    {
        const fs::path etc = one.diff(1) / "rootfs/etc";
        change_and_keep_time(etc, [&] { fs::remove(etc / "link"); });
        one.check_diff(1, "etc/link", "it is missing");
    }
}

TEST_CASE("all damage is listed, in one layer and in several")
{
    NEEDS_ROOT();
    const on_disk one;
    flip(one.diff(0) / "rootfs/bin/large", 1);
    flip(one.diff(0) / "rootfs/etc/passwd", 1);
    fs::permissions(one.diff(0) / "rootfs/fifo", fs::perms(0777));
    flip(one.diff(1) / "rootfs/deep/er/file", 0);
    write(one.base / "tags/nonsense.json", "{");
    const auto report = one.check();
    std::set<std::string> paths;
    for (const auto& found : report.findings)
        paths.insert(found.path);
    CHECK(paths == std::set<std::string>{"", "bin/large", "deep/er/file", "etc/passwd", "fifo"});
    CHECK(report.findings.size() == 5);
}

TEST_CASE("a damaged recipe is found")
{
    NEEDS_ROOT();
    const on_disk one;
    const fs::path recipe = one.diff(0) / "recipe";
    const std::string object = digest::of(one.tars[0]).string();
    SECTION("truncated")
    {
        fs::resize_file(recipe, fs::file_size(recipe) / 2);
        one.check_diff(0, "", "", finding_kind::diff_unreadable);
    }
    SECTION("a byte changed")
    {
        flip(recipe, fs::file_size(recipe) / 2);
        one.check_diff(0, "", "", finding_kind::diff_unreadable);
    }
    SECTION("the recipe of another layer")
    {
        fs::copy_file(one.diff(2) / "recipe", recipe, fs::copy_options::overwrite_existing);
        const auto report = one.check();
        CHECK_FALSE(report.ok());
        for (const auto& found : report.findings)
            CHECK((found.kind == finding_kind::diff_changed && found.object == object));
    }
    SECTION("missing")
    {
        fs::remove(recipe);
        one.check_diff(0, "", "", finding_kind::diff_unreadable);
    }
}

TEST_CASE("a diff without a tree, without a record or with a broken record is found")
{
    NEEDS_ROOT();
    const on_disk one;
    SECTION("no tree")
    {
        fs::remove_all(one.diff(0) / "rootfs");
        const auto report = one.check();
        REQUIRE(report.findings.size() == 1);
        CHECK(report.findings[0].object == digest::of(one.tars[0]).string());
    }
    SECTION("no record")
    {
        fs::remove(one.diff(0) / "diff.json");
        one.check_one(finding_kind::diff_missing, one.chain(1).string(), "", digest::of(one.tars[0]).string());
    }
    SECTION("a broken record")
    {
        write(one.diff(0) / "diff.json", "{}");
        one.check_one(finding_kind::record_unreadable, digest::of(one.tars[0]).string(), "", "");
    }
}

TEST_CASE("damaged records are found, also without reading the layers")
{
    NEEDS_ROOT();
    const on_disk one;
    const fs::path config = one.base / "images/sha256" / one.image.hex() / "config.json";
    SECTION("a byte of the config")
    {
        flip(config, 20);
        one.check_one(finding_kind::config_changed, one.image.string(), "", "it", false);
    }
    SECTION("no config")
    {
        fs::remove(config);
        one.check_one(finding_kind::config_changed, one.image.string(), "", "missing", false);
    }
    SECTION("a byte of a manifest")
    {
        const fs::path file = *fs::directory_iterator(one.base / "manifests");
        flip(file, 20);
        std::string id = file.stem().string();
        id[id.find('-')] = ':';
        one.check_one(finding_kind::manifest_changed, id, "", "has the digest", false);
    }
    SECTION("no manifest")
    {
        fs::remove_all(*fs::directory_iterator(one.base / "manifests"));
        one.check_one(finding_kind::manifest_missing, "example.org/test:1", "", "is missing", false);
    }
    SECTION("no record of a layer")
    {
        fs::remove(one.layer(2) / "layer.json");
        one.check_one(finding_kind::record_unreadable, one.chain(2).string(), "", "missing", false);
    }
    SECTION("no layer")
    {
        fs::remove_all(one.layer(1));
        const auto report = one.check(false);
        REQUIRE(report.findings.size() == 2);
        CHECK(report.findings[0].kind == finding_kind::layer_missing);
        CHECK(report.findings[0].object == one.image.string());
        CHECK(report.findings[1].kind == finding_kind::parent_missing);
        CHECK(report.findings[1].object == one.chain(2).string());
    }
    SECTION("the record of another layer")
    {
        write(one.layer(2) / "layer.json", read(one.layer(1) / "layer.json"));
        one.check_one(finding_kind::chain_id_mismatch, one.chain(2).string(), "", one.chain(1).string(), false);
    }
    SECTION("a layer that is its own parent")
    {
        write(one.layer(3) / "layer.json", R"({"diff_id":")" + digest::of(one.tars[2]).string() + R"(","parent":")" +
                                               one.chain(3).string() + "\"}");
        one.check_one(finding_kind::chain_id_mismatch, one.chain(3).string(), "", "its parent and its diff have the chain ID", false);
    }
    SECTION("a tag without its image")
    {
        tag_to_nowhere(one.base);
        one.check_one(finding_kind::image_missing, "docker.io/library/other:latest", "",
                      digest::of("nowhere").string(), false);
    }
    SECTION("a tag of another name")
    {
        const fs::path file = *fs::directory_iterator(one.base / "tags");
        const std::string other = std::string(64, '0') + ".json";
        fs::rename(file, one.base / "tags" / other);
        one.check_one(finding_kind::record_unreadable, other, "", "belongs in another file", false);
    }
    SECTION("a mount")
    {
        write(one.base / "mounts/0123/record.json", "[]");
        one.check_one(finding_kind::record_unreadable, "0123", "", "", false);
    }
}

TEST_CASE("a missing correction that a chain needs is found")
{
    NEEDS_ROOT();
    const on_disk one;
    const fs::path top = one.layer(3), made = top / ("correction-" + om::detail::boot_id());
    REQUIRE(fs::exists(made));
    SECTION("removed")
    {
        fs::remove_all(made);
        one.check_one(finding_kind::correction_missing, one.chain(3).string(), "", "", false);
    }
    SECTION("denied")
    {
        write(top / "correction.json", R"({"needed":false,"boot_id":")" + om::detail::boot_id() + "\"}");
        one.check_one(finding_kind::correction_missing, one.chain(3).string(), "", "", false);
    }
    SECTION("unreadable: the correction is made again")
    {
        write(top / "correction.json", "");
        CHECK(one.check().ok());
    }
    SECTION("not made yet")
    {
        fs::remove(top / "correction.json");
        CHECK(one.check().ok());
    }
}

TEST_CASE("a blob that does not match its digest is found")
{
    NEEDS_ROOT();
    const on_disk one;
    const digest id = digest::of("content");
    const fs::path file = one.base / "blobs/sha256" / id.hex();
    write(file, "content");
    CHECK(one.check().blobs == 1);
    CHECK(one.check().ok());
    flip(file, 3);
    one.check_one(finding_kind::blob_changed, id.string(), "", "has the digest");
    CHECK(one.check(false).ok());
}

TEST_CASE("a damaged tar of a virtual repository is found")
{
    const as_tars one;
    const fs::path tar = one.diff(0) / "layer.tar";
    SECTION("a byte changed")
    {
        flip(tar, 100'000);
        one.check_diff(0, "", "its tar has");
    }
    SECTION("truncated")
    {
        fs::resize_file(tar, 1024);
        one.check_diff(0, "", "its tar has");
    }
    SECTION("missing")
    {
        fs::remove(tar);
        one.check_diff(0, "", "", finding_kind::diff_unreadable);
    }
    SECTION("a missing index is no damage: it is a cache")
    {
        fs::remove(one.diff(0) / "index");
        CHECK(one.check().ok());
    }
}

TEST_CASE("images that are imported and removed during a check are not damage")
{
    NEEDS_ROOT();
    const on_disk one;
    // Without syncs both are faster, and so more likely to overlap.
    const auto fast = get(om::repository::open(one.base, om::repository_options().workers(2).sync(om::durability::none)));
    // Each continues until both have done enough rounds, whichever is faster.
    constexpr std::size_t enough = 100;
    std::atomic<std::size_t> checks = 0, imports = 0;
    std::atomic<bool> over = false;
    auto other = std::async(std::launch::async, [&] {
        while (!over && (checks < enough || imports < enough)) {
            get(fast.remove_image(one.image));
            static_cast<void>(get(fast.import_image(om::oci_layout((one.scratch / "source").string()),
                                                    om::import_options().wanted({"linux", "amd64"}))));
            ++imports;
        }
    });
    check_report report;
    while (report.ok() && (checks < enough || imports < enough) &&
           other.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
        report = get(fast.check(check_options().contents(checks % 50 == 0)));
        ++checks;
    }
    over = true;
    other.get(); // rethrows its failure
    for (const auto& found : report.findings)
        UNSCOPED_INFO(to_string(found.kind) << " " << found.object << ": " << found.detail);
    CHECK(report.ok());
    CHECK((checks >= enough && imports >= enough));
}

// Blocks the next open of the file as long as this object lives, if the kernel supports that.
class held_opener
{
public:
    explicit held_opener(const fs::path& file) : fd_(::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC))
    {
        if (fd_ && ::fanotify_mark(fd_.get(), FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, file.c_str()) != 0)
            fd_.reset();
    }
    [[nodiscard]] bool works() const { return static_cast<bool>(fd_); }
    // Waits for an open that is blocked; returns whether there is one.
    [[nodiscard]] bool wait()
    {
        pollfd ready{fd_.get(), POLLIN, 0};
        fanotify_event_metadata event{};
        if (::poll(&ready, 1, 60'000) != 1 || ::read(fd_.get(), &event, sizeof event) < static_cast<ssize_t>(sizeof event))
            return false;
        opened_.reset(event.fd);
        return true;
    }

private:
    om::unique_fd fd_, opened_;
};

TEST_CASE("a finding that a second look does not confirm is not damage")
{
    NEEDS_ROOT();
    const on_disk one;
    tag_to_nowhere(one.base);
    std::optional<held_opener> held(one.base / "images" / om::detail::digest_path(one.image) / "config.json");
    if (!held->works())
        OVERMOUNT_SKIP("no fanotify with permissions");
    auto report = std::async(std::launch::async, [&] { return get(one.repository.check()); });
    CHECK(held->wait()); // the check has read the tags by now
    get(one.repository.remove_tag("other"));
    held.reset();
    CHECK(report.get().ok());
}

TEST_CASE("a check that is cancelled ends early and leaves nothing")
{
    NEEDS_ROOT();
    const on_disk one;
    for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                            asio::cancellation_type::total}) {
        asio::io_context context;
        asio::cancellation_signal signal;
        boost::system::error_code code;
        const auto work = [&]() -> asio::awaitable<void> {
            co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
            static_cast<void>(co_await one.repository.check());
        };
        asio::co_spawn(context, work(), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr why) {
                           try {
                               if (why)
                                   std::rethrow_exception(why);
                           } catch (const om::error& failure) {
                               code = failure.code();
                           } catch (const boost::system::system_error& failure) {
                               code = failure.code();
                           }
                       }));
        asio::post(context, [&] { signal.emit(type); });
        context.run_for(std::chrono::seconds(120));
        CHECK(code == asio::error::operation_aborted);
        for (const char* part : {"tmp", "leases"})
            CHECK(fs::is_empty(one.base / part));
    }
}
