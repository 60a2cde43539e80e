// Mounts of layers that belong to no image.
#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/device_numbers.hpp"
#include "support/may_mount.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"
#include "support/tree.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace fs = std::filesystem;
namespace om = overmount;
using ::test::get;

using om::errc;
using om::mount_options;
using om::mount_state;
using om::repository_options;
using om::test::list_tree;
using om::test::may_mount;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

std::string read(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}
void write(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

// Two layers, one on the other, without an image. The upper one needs a correction, since it only implies `d`.
class place
{
public:
    explicit place(om::durability sync = om::durability::batch) : sync_(sync), repository(open())
    {
        below = make(tar_writer().directory("d", {.mode = 0711}).file("d/gone", "1").file("d/same", "below"), std::nullopt);
        above = make(tar_writer().whiteout("d/gone").file("d/new", "above"), below);
        fs::create_directory(scratch / "target");
    }
    om::layer make(const tar_writer& tar, std::optional<om::chain_id> parent)
    {
        std::ofstream(scratch / "tar", std::ios::binary) << tar.finish();
        return get(repository.create_layer(scratch / "tar", std::move(parent)));
    }
    [[nodiscard]] om::repository open() const
    {
        return get(om::repository::open(scratch / "repo", repository_options().workers(2).sync(sync_)));
    }
    [[nodiscard]] om::mount mount_writable() const
    {
        om::test::low_device_numbers low; // so that no other mount gets the same device number
        return get(above->mount(mount_options().writable(true).target((scratch / "target").string())));
    }
    [[nodiscard]] om::mount_record record() const
    {
        const auto all = repository.mounts();
        REQUIRE(all.size() == 1);
        return all.front();
    }
    [[nodiscard]] bool is_there(const om::layer& one) const
    {
        return repository.contains(one) && repository.contains(one.diff()) && fs::exists(scratch / "repo/layers/sha256" / one.id().value().hex());
    }

private:
    om::durability sync_;

public:
    scratch_directory scratch;
    om::repository repository;
    std::optional<om::layer> below, above;
};

template <class Operation>
boost::system::error_code failure_of(Operation operation)
{
    try {
        operation();
    } catch (const om::error& failure) {
        return failure.code();
    }
    return {};
}

} // namespace

TEST_CASE("a layer is mounted with all layers below it, without an image", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = get(at.above->mount());
    const fs::path top = mounted.target();
    CHECK(read(top / "d/same") == "below");
    CHECK(read(top / "d/new") == "above");
    CHECK_FALSE(fs::exists(top / "d/gone"));
    CHECK(fs::status(top / "d").permissions() == fs::perms(0711));
    CHECK_FALSE(mounted.writable());
    const auto record = at.record();
    CHECK(record.layer == at.above->id());
    CHECK_FALSE(record.image);
    CHECK(get(at.repository.state_of(record)) == mount_state::alive);
    // The lowest layer alone, at the same time.
    auto other = get(at.below->mount());
    CHECK(read(fs::path(other.target()) / "d/gone") == "1");
    get(other.unmount());
    get(mounted.unmount());
    CHECK(at.repository.mounts().empty());
    CHECK(get(at.repository.check()).ok());
}

TEST_CASE("a mounted layer is not collected or removed until it is unmounted", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = get(at.above->mount());
    const std::string tree = list_tree(mounted.target());
    const auto refused = [&](const om::layer& one, const std::string& word) {
        try {
            get(one.remove());
            FAIL("no error");
        } catch (const om::error& failure) {
            CHECK(failure.code() == errc::layer_in_use);
            CHECK(std::string(failure.what()).find(word) != std::string::npos);
        }
    };
    CHECK(get(at.repository.collect()).diffs == 0);
    CHECK(at.is_there(*at.above));
    CHECK(at.is_there(*at.below));
    refused(*at.above, "mounted at " + mounted.target());
    refused(*at.below, at.above->id().string());
    CHECK(get(at.repository.remove_unused_images()).empty());
    CHECK(list_tree(mounted.target()) == tree);
    get(mounted.unmount());
    CHECK(get(at.repository.collect()).layers == 2);
    CHECK(at.repository.layers().empty());
}

TEST_CASE("a missing layer and a damaged layer are not mounted", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    get(at.above->remove());
    CHECK(failure_of([&] { static_cast<void>(get(at.above->mount())); }) == errc::layer_not_found);
    CHECK(failure_of([&] { static_cast<void>(get(at.above->mount(mount_options().writable(true)))); }) == errc::layer_not_found);
    CHECK(at.repository.mounts().empty());
    write(at.scratch / "repo/diffs/sha256" / at.below->diff().value().hex() / "rootfs/d/same", "other");
    CHECK_FALSE(get(at.repository.check()).ok());
    CHECK(failure_of([&] { static_cast<void>(get(at.below->mount())); }) == errc::diff_damaged);
    auto mounted = get(at.below->mount(mount_options().accept_damaged()));
    CHECK(read(fs::path(mounted.target()) / "d/same") == "other");
    get(mounted.unmount());
}

TEST_CASE("what is written in a mount of a layer is kept when it is stopped, and is there when it is mounted again", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    {
        auto mounted = at.mount_writable();
        write(fs::path(mounted.target()) / "d/written", "mine");
    }
    const auto record = at.record();
    CHECK(get(at.repository.state_of(record)) == mount_state::stopped);
    CHECK(get(at.repository.collect()).diffs == 0);
    CHECK(at.is_there(*at.above));
    CHECK(failure_of([&] { get(at.above->remove()); }) == errc::layer_in_use);
    auto again = get(at.open().mount_again(record));
    CHECK(read(fs::path(again.target()) / "d/written") == "mine");
    CHECK(read(fs::path(again.target()) / "d/new") == "above");
    CHECK(at.record().layer == at.above->id());
    get(again.unmount());
}

TEST_CASE("a commit of a mounted layer makes an image with an empty config", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    write(fs::path(mounted.target()) / "d/written", "mine");
    fs::remove(fs::path(mounted.target()) / "d/same");
    const std::string tree = list_tree(mounted.target());
    const auto made = get(mounted.commit(om::commit_options().tag("example.org/made:1").created_by("a test").message("words")));
    get(mounted.unmount());
    REQUIRE(made.layers().size() == 3);
    CHECK(made.layers()[1] == *at.above);
    CHECK(made.layers()[2] == *at.below);
    CHECK(made.config().user().empty());
    const auto host = om::platform::host();
    CHECK(made.config().bytes().find("\"" + host.architecture() + "\"") != std::string::npos);
    CHECK(at.repository.find_image("example.org/made:1") == made);
    auto shown = get(made.mount());
    CHECK(om::test::tree_difference(tree, list_tree(shown.target())) == "");
    get(shown.unmount());
    CHECK(get(at.repository.check()).ok());
}

TEST_CASE("a commit of a mounted layer without changes makes an image of its chain", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = at.mount_writable();
    const auto made = get(mounted.commit());
    get(mounted.unmount());
    CHECK(made.top() == at.above);
}

TEST_CASE("a lost correction of a mounted layer is found and made again", "[mounts]")
{
    NEEDS_MOUNTS();
    place at;
    auto mounted = get(at.above->mount());
    const fs::path layer = at.scratch / "repo/layers/sha256" / at.above->id().value().hex();
    for (const auto& one : fs::directory_iterator(layer))
        if (one.is_directory())
            fs::rename(one.path(), at.scratch / "lost");
    REQUIRE(fs::exists(at.scratch / "lost"));
    const auto report = get(at.repository.check());
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings.front().kind == om::finding_kind::correction_missing);
    CHECK(report.findings.front().object == at.above->id().string());
    CHECK(get(at.repository.repair()).ok());
    auto again = get(at.above->mount());
    CHECK(fs::status(fs::path(again.target()) / "d").permissions() == fs::perms(0711));
    get(again.unmount());
    get(mounted.unmount());
}

TEST_CASE("a writable mount of a layer makes the layers below durable", "[mounts]")
{
    NEEDS_MOUNTS();
    place at(om::durability::none);
    const auto synced = [&at](const om::layer& one) { return get(om::repository::open(at.scratch / "repo")).layer(one).record().sync; };
    CHECK(synced(*at.above) == om::durability::none);
    const auto lasting = get(om::repository::open(at.scratch / "repo", repository_options().workers(2)));
    {
        auto looked_at = get(lasting.layer(*at.above).mount());
        get(looked_at.unmount());
    }
    CHECK(synced(*at.above) == om::durability::none);
    auto mounted = get(lasting.layer(*at.above).mount(mount_options().writable(true)));
    CHECK(synced(*at.above) != om::durability::none);
    CHECK(synced(*at.below) != om::durability::none);
    get(mounted.unmount());
    CHECK(fs::is_empty(at.scratch / "repo/tmp"));
    CHECK(fs::is_empty(at.scratch / "repo/leases"));
}
