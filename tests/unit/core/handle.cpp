// Empty handles: default-constructed, as Asio does for the result of a failed operation, or moved from.
#include <overmount/core/handle.hpp>
#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <fstream>
#include <functional>
#include <sstream>
#include <unordered_set>
#include <vector>

namespace asio = boost::asio;
namespace om = overmount;

using ::test::get;
using om::errc;

namespace {

struct call
{
    const char* name;
    std::function<void()> member;
};

// Each call throws at once, not when the returned awaitable is awaited.
void check_refused(const std::vector<call>& calls)
{
    for (const auto& [name, member] : calls) {
        CAPTURE(name);
        boost::system::error_code code;
        try {
            member();
        } catch (const om::error& failure) {
            code = failure.code();
        }
        CHECK(code == errc::invalid_handle);
    }
}

#define CALL(expression) call{#expression, [&] { static_cast<void>(expression); }}

const om::digest some = om::digest::of("some");
const om::diff_id diff(some);
const om::chain_id chain(some);

TEST_CASE("every member of an empty repository throws invalid_handle when it is called")
{
    const om::repository empty;
    CHECK_FALSE(empty);
    const om::mount_record record("id", some, "/target", false);
    const om::docker_archive archive("file");
    const auto list = [](const om::tar::entry&, const om::layer&) {};
    static_cast<void>(list);
    check_refused({
        CALL(empty.import_images(archive)),
        CALL(empty.import_images(om::archive_stream(om::byte_stream()))),
        CALL(empty.import_images(om::archive_file("file"))),
        CALL(empty.import_image(archive)),
        CALL(empty.export_images({}, om::docker_archive_target("file"))),
        CALL(empty.images()),
        CALL(empty.find_image("name")),
        CALL(empty.remove_image(some)),
        CALL(empty.tags()),
        CALL(empty.tag("name")),
        CALL(empty.confirm_tag("name")),
        CALL(empty.add_tag("name", some)),
        CALL(empty.remove_tag("name")),
        CALL(empty.create_layer("file")),
        CALL(empty.create_layer(om::byte_stream())),
        CALL(empty.create_layer(om::asset_stream())),
        CALL(empty.create_image(om::image_config::parse(R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}})", {}))),
        CALL(empty.diff(std::nullopt, std::nullopt)),
        CALL(empty.flatten(std::nullopt)),
        CALL(empty.squash(om::image())),
        CALL(empty.layers()),
        CALL(empty.layer(chain)),
        CALL(empty.find_layer("name")),
        CALL(empty.contains(chain)),
        CALL(empty.contains(diff)),
        CALL(empty.diff(diff)),
        CALL(empty.asset(diff)),
        CALL(empty.import_asset(om::basic_asset<om::virtual_storage>())),
        CALL(empty.mounts()),
        CALL(empty.find_mounts("name")),
        CALL(empty.state_of(record)),
        CALL(empty.mount_again(record)),
        CALL(empty.unmount(record)),
        CALL(empty.commit(record)),
        CALL(empty.check()),
        CALL(empty.repair()),
        CALL(empty.repair(archive)),
        CALL(empty.base()),
        CALL(empty.bounds()),
        CALL(empty.collect()),
        CALL(empty.remove_layer(chain)),
        CALL(empty.remove_unused_images()),
        CALL(empty.usage()),
        CALL(empty.lease(om::lease_request())),
        CALL(empty.lease_for("name", std::chrono::seconds(1), om::lease_request())),
        CALL(empty.end_lease("name")),
        CALL(empty.leases()),
    });
}

TEST_CASE("every member of an empty image throws invalid_handle when it is called")
{
    const om::image empty;
    CHECK_FALSE(empty);
    check_refused({
        CALL(empty.id()),
        CALL(empty.config()),
        CALL(empty.layers()),
        CALL(empty.top()),
        CALL(empty.size()),
        CALL(empty.tags()),
        CALL(empty.manifest()),
        CALL(empty.files([](const om::tar::entry&, const om::layer&) {})),
        CALL(empty.open("path")),
        CALL(empty.layer_of("path")),
        CALL(empty.mount()),
        CALL(empty.export_to(om::docker_archive_target("file"))),
    });
}

TEST_CASE("every member of an empty layer throws invalid_handle when it is called")
{
    const om::layer empty;
    CHECK_FALSE(empty);
    check_refused({
        CALL(empty.id()),
        CALL(om::chain_id(empty)),
        CALL(empty.diff()),
        CALL(empty.parent_id()),
        CALL(empty.parent()),
        CALL(empty.record()),
        CALL(empty.size()),
        CALL(empty.asset()),
        CALL(empty.files([](const om::tar::entry&) {})),
        CALL(empty.open("path")),
        CALL(empty.pack()),
        CALL(empty.verify()),
        CALL(empty.mount()),
        CALL(empty.remove()),
    });
}

TEST_CASE("every member of an empty asset, mount or stream throws invalid_handle when it is called")
{
    const om::basic_asset<om::on_disk_storage> asset;
    om::mount mount;
    const om::asset_stream stream;
    const om::byte_stream bytes;
    CHECK_FALSE(asset);
    CHECK_FALSE(mount);
    CHECK_FALSE(stream);
    CHECK_FALSE(bytes);
    check_refused({
        CALL(asset.id()),
        CALL(asset.size()),
        CALL(asset.list([](const om::tar::entry&) {})),
        CALL(asset.open("path")),
        CALL(asset.pack()),
        CALL(asset.verify()),
        CALL(mount.id()),
        CALL(mount.target()),
        CALL(mount.writable()),
        CALL(mount.keep()),
        CALL(mount.commit()),
        CALL(mount.unmount()),
        CALL(stream.size()),
        CALL(stream.get_executor()),
        CALL(stream.read_some({})),
        CALL(stream.async_read_some(asio::mutable_buffer(), [](boost::system::error_code, std::size_t) {})),
        CALL(bytes.read_some({})),
    });
    om::lease lease; // an empty lease keeps nothing, and `end` is allowed
    CHECK_FALSE(lease);
    lease.end();
}

TEST_CASE("empty handles are equal, come before all others, and can be hashed and printed")
{
    const om::test::scratch_directory scratch;
    std::ofstream(scratch / "tar", std::ios::binary) << om::test::tar_writer().file("f", "text").finish();
    const auto repository =
        get(om::virtual_repository::open(scratch / "repository", om::repository_options().workers(1).sync(om::durability::none)));
    const auto layer = get(repository.create_layer(scratch / "tar"));
    auto config = om::image_config::parse(R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}})", {});
    const auto image = get(repository.create_image(std::move(config), std::optional<om::chain_id>(layer)));
    const auto check = [](const auto& one) {
        using handle = std::remove_cvref_t<decltype(one)>;
        CHECK(one);
        CHECK(handle() == handle());
        CHECK(handle() != one);
        CHECK(handle() < one);
        CHECK(one > handle());
        CHECK(std::unordered_set<handle>{handle(), one, handle()}.size() == 2);
        std::ostringstream text;
        text << handle() << ' ' << one;
        CHECK(text.str() == "(empty) " + one.id().string());
        handle from = one, to = std::move(from);
        CHECK(to == one);
        CHECK(from == handle());
        from = std::move(to);
        CHECK(from == one);
        CHECK_FALSE(to);
    };
    check(layer);
    check(image);
    auto asset = layer.asset();
    CHECK(asset == layer.asset());
    CHECK(asset != om::basic_asset<om::virtual_storage>());
    const auto taken = std::move(asset);
    CHECK(taken == layer.asset());
    check_refused({CALL(asset.id()), CALL(asset.size())});
    CHECK(asset == om::basic_asset<om::virtual_storage>());
    auto opened = repository;
    const auto moved = std::move(opened);
    CHECK(moved);
    CHECK_FALSE(opened);
    auto stream = get(taken.open("f"));
    CHECK(stream);
    const auto rest = std::move(stream);
    CHECK(rest.size() == 4);
    check_refused({CALL(stream.size())});
}

TEST_CASE("an operation that is given an empty handle fails")
{
    const om::test::scratch_directory scratch;
    const auto repository =
        get(om::repository::open(scratch / "repository", om::repository_options().workers(1).sync(om::durability::none)));
    check_refused({
        CALL(get(repository.squash(om::image()))),
        CALL(repository.flatten(om::image())),
        CALL(repository.diff(om::image(), om::image())),
        CALL(repository.export_images({om::image()}, om::docker_archive_target("file"))),
        CALL(repository.import_asset(om::basic_asset<om::virtual_storage>())),
        CALL(get(repository.create_layer(om::byte_stream()))),
        CALL(get(repository.create_layer(om::asset_stream()))),
        CALL(get(repository.import_images(om::archive_stream(om::byte_stream())))),
    });
}

} // namespace
