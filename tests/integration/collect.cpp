// What a collection keeps, and for whom.
#include <overmount/overmount.hpp>
#include <overmount/repository/operations/collection_reader.hpp>
#include <overmount/repository/records/store.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <vector>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::chain_id;
using om::collect_options;
using om::diff_id;
using om::digest;
using om::errc;
using om::lease_request;
using om::test::image_source;
using om::test::oci_layout_writer;
using om::test::scratch_directory;
using om::test::tar_writer;
using namespace std::chrono_literals;

namespace {

// A virtual repository: these tests need no root.
struct filled
{
    explicit filled(om::durability sync = om::durability::batch)
        : repository(get(om::virtual_repository::open(base, om::repository_options().sync(sync))))
    {
    }

    // Two layers; each of these images has the lower one.
    digest import(const std::string& name)
    {
        image_source source{.tags = {"example.org/" + name + ":1"}};
        source.layers.push_back({tar("low")});
        source.layers.push_back({tar(name)});
        oci_layout_writer writer;
        const digest id = writer.add(source);
        writer.finish().write_directory(scratch / name);
        om::oci_layout layout((scratch / name).string());
        CHECK(get(repository.import_image(layout, om::import_options().wanted({"linux", "amd64"}))).id() == id);
        return id;
    }
    static std::string tar(const std::string& name) { return tar_writer().file(name, name).finish(); }
    static diff_id diff(const std::string& name) { return diff_id(digest::of(tar(name))); }
    static chain_id chain(const std::string& name) { return chain_id::of(chain_id::of(diff("low")), diff(name)); }

    om::collect_report collect(collect_options options = collect_options()) const { return get(repository.collect(options)); }
    [[nodiscard]] bool is_whole() const { return get(repository.check()).ok(); }
    [[nodiscard]] bool has(const std::string& name) const { return fs::exists(base / "diffs/sha256" / diff(name).value().hex()); }
    [[nodiscard]] bool has_layer(const std::string& name) const
    {
        return fs::exists(base / "layers/sha256" / chain(name).value().hex());
    }

    scratch_directory scratch;
    fs::path base = scratch / "repository";
    om::virtual_repository repository;
};

template <class Function>
boost::system::error_code code_of(const Function& call)
{
    try {
        call();
    } catch (const om::error& failure) {
        return failure.code();
    }
    return {};
}

} // namespace

TEST_CASE("a collection removes what no image needs, and reports how much it was")
{
    filled all;
    const digest first = all.import("first"), second = all.import("second");
    CHECK(all.collect().diffs == 0);
    get(all.repository.remove_image(first));
    const auto dry = all.collect(collect_options().dry_run(true));
    CHECK(all.has("first"));
    const auto report = all.collect();
    for (const auto& one : {dry, report}) {
        CHECK(one.layers == 1);
        CHECK(one.diffs == 1);
        CHECK(one.manifests == 1);
        CHECK(one.bytes > 0);
        CHECK(one.bytes == dry.bytes);
        CHECK(one.left.empty());
    }
    CHECK_FALSE(all.has("first"));
    CHECK_FALSE(all.has_layer("first"));
    CHECK(all.has("second"));
    CHECK(all.has("low"));
    CHECK(all.is_whole());
    CHECK(all.repository.find_image(second.string()).id() == second);
    CHECK(fs::is_empty(all.base / "tmp"));
    CHECK(fs::is_empty(all.base / "leases"));
}

TEST_CASE("a lease keeps an image's layers when the image is removed, until it ends")
{
    filled all;
    const digest id = all.import("image");
    om::lease held = get(all.repository.lease(lease_request().image(id)));
    CHECK(held.is_held());
    get(all.repository.remove_image(id));
    CHECK(all.collect().layers == 0);
    CHECK(all.has("image"));
    CHECK(all.is_whole());

    SECTION("by a call of end") { held.end(); }
    SECTION("by an assignment") { held = om::lease(); }
    CHECK_FALSE(held.is_held());
    CHECK(all.collect().layers == 2);
    CHECK_FALSE(all.has("image"));
}

TEST_CASE("a lease on a layer keeps all layers below it, and nothing else")
{
    filled all;
    const digest first = all.import("first"), second = all.import("second");
    const om::lease held = get(all.repository.lease(lease_request().layer(all.chain("first"))));
    get(all.repository.remove_image(first));
    get(all.repository.remove_image(second));
    CHECK(all.collect().layers == 1);
    CHECK(all.has_layer("first"));
    CHECK(all.has("low"));
    CHECK_FALSE(all.has("second"));
}

TEST_CASE("a damaged diff can be leased: it stays, also after another tree has replaced it")
{
    filled all;
    const digest id = all.import("image");
    const fs::path diff = all.base / "diffs/sha256" / all.diff("image").value().hex(), old = diff.string() + ".1";
    {
        std::fstream tar(diff / "layer.tar", std::ios::in | std::ios::out | std::ios::binary);
        tar.seekp(600);
        tar << '?';
        REQUIRE(tar.flush());
    }
    CHECK_FALSE(all.is_whole());
    om::lease held = get(all.repository.lease(lease_request().image(id)));
    get(all.repository.lease_for("service", 1h, lease_request().layer(all.chain("image"))));
    get(all.repository.remove_image(id));
    CHECK(all.collect().layers == 0);
    CHECK(all.has("image"));
    CHECK(all.import("image") == id); // the layer is unpacked again
    CHECK(all.is_whole());
    CHECK(all.collect().old_trees == 0);
    CHECK(fs::exists(old));
    held.end();
    CHECK(all.collect().old_trees == 0);
    get(all.repository.end_lease("service"));
    CHECK(all.collect().old_trees == 1);
    CHECK_FALSE(fs::exists(old));
    CHECK(all.is_whole());
}

TEST_CASE("a missing image or layer cannot be leased")
{
    filled all;
    CHECK(code_of([&] { static_cast<void>(get(all.repository.lease(lease_request().image(digest::of("none"))))); }) == errc::image_not_found);
    CHECK(code_of([&] { static_cast<void>(get(all.repository.lease(lease_request().layer(all.chain("none"))))); }) == errc::layer_not_found);
    CHECK(code_of([&] { static_cast<void>(get(all.repository.lease_for("a", 1h, lease_request().image(digest::of("none"))))); }) == errc::image_not_found);
    CHECK(all.repository.leases().empty());
    CHECK(fs::is_empty(all.base / "leases"));
}

TEST_CASE("a lease with a name outlives its process, is renewed, and is ended by its name")
{
    filled all(om::durability::none);
    const digest id = all.import("image");
    {
        auto other = get(om::virtual_repository::open(all.base));
        get(other.lease_for("service \n one", 1h, lease_request().image(id)));
        // What the lease keeps is made durable, though it was written with durability::none.
        CHECK(other.diff(all.diff("image")).sync == om::durability::batch);
    }
    get(all.repository.remove_image(id));
    CHECK(all.collect().layers == 0);
    auto leases = all.repository.leases();
    REQUIRE(leases.size() == 1);
    CHECK(leases[0].name == "service \n one");
    CHECK(leases[0].left > 59min);
    CHECK(leases[0].images == std::vector<digest>{id});
    CHECK(leases[0].layers.size() == 2);

    get(all.repository.lease_for("service \n one", 2h, lease_request().layer(all.chain("image"))));
    leases = all.repository.leases();
    REQUIRE(leases.size() == 1);
    CHECK(leases[0].left > 1h);
    CHECK(all.collect().layers == 0);

    SECTION("by its name")
    {
        get(all.repository.end_lease("service \n one"));
        CHECK(code_of([&] { get(all.repository.end_lease("service \n one")); }) == errc::lease_not_found);
    }
    SECTION("when it expires")
    {
        get(all.repository.lease_for("service \n one", 0s, lease_request().layer(all.chain("image"))));
    }
    CHECK(all.collect().layers == 2);
    CHECK(all.repository.leases().empty());
    CHECK(fs::is_empty(all.base / "leases"));
}

TEST_CASE("a layer that something needs is not removed, and the error says what needs it")
{
    filled all;
    const digest id = all.import("image");
    const auto refuse = [&](const chain_id& chain, const std::string& word) {
        try {
            get(all.repository.remove_layer(chain));
            FAIL("it was removed");
        } catch (const om::error& failure) {
            CHECK(failure.code() == errc::layer_in_use);
            CHECK(failure.detail().find(word) != std::string::npos);
        }
    };
    refuse(all.chain("image"), "image " + id.string());
    get(all.repository.remove_image(id));
    {
        const om::lease held = get(all.repository.lease(lease_request().layer(all.chain("image"))));
        refuse(all.chain("image"), "lease");
    }
    refuse(chain_id::of(all.diff("low")), "layer " + all.chain("image").string());
    get(all.repository.remove_layer(all.chain("image")));
    CHECK_FALSE(all.has_layer("image"));
    CHECK(all.has("image"));
    CHECK(code_of([&] { get(all.repository.remove_layer(all.chain("image"))); }) == errc::layer_not_found);
    get(all.repository.remove_layer(chain_id::of(all.diff("low"))));
    CHECK(all.collect().diffs == 2);
}

TEST_CASE("objects younger than the least age stay, with everything below them")
{
    filled all;
    get(all.repository.remove_image(all.import("image")));
    CHECK(all.collect(collect_options().least_age(1h)).layers == 0);
    CHECK(all.has_layer("image"));
    CHECK(all.is_whole());
}

TEST_CASE("images without a tag or a lease are unused")
{
    filled all;
    [[maybe_unused]] const digest tagged = all.import("tagged");
    const digest leased = all.import("leased"), unused = all.import("unused");
    const om::lease held = get(all.repository.lease(lease_request().image(leased)));
    get(all.repository.remove_tag("example.org/leased:1"));
    get(all.repository.remove_tag("example.org/unused:1"));
    CHECK(get(all.repository.remove_unused_images()) == std::vector<digest>{unused});
    CHECK(all.repository.images().size() == 2);
}

TEST_CASE("an image is not removed while a tag cannot be read, so that no tag loses its image")
{
    filled all;
    const digest id = all.import("image");
    const fs::path tag = fs::directory_iterator(all.base / "tags")->path(), aside = all.scratch / "aside";
    fs::rename(tag, aside);

    SECTION("a tag that cannot be read because of an I/O error")
    {
        fs::create_directory(tag);
        CHECK(code_of([&] { get(all.repository.remove_image(id)); }) == boost::system::errc::is_a_directory);
        CHECK(all.repository.images().size() == 1);
        fs::remove(tag);
        fs::rename(aside, tag);
        get(all.repository.remove_image(id));
        CHECK(all.repository.tags().empty());
    }
    SECTION("but a damaged tag names no image and does not count")
    {
        std::ofstream(tag) << "{";
        get(all.repository.remove_image(id));
    }
    CHECK(all.repository.images().empty());
}

TEST_CASE("images, layers and leases that are made or extended after the marking are kept")
{
    filled all;
    const digest gone = all.import("gone");
    const auto records = std::make_shared<om::detail::store>(all.base, om::virtual_storage::form(), false);
    const auto early = records->leases.take({});
    get(all.repository.remove_image(gone));
    const om::limits bounds;
    om::detail::collection_reader reader(records, bounds);
    const om::detail::stop_flag stop;
    reader.read(stop);
    const auto goes = [&](const std::string& name) {
        return reader.marks().is_unneeded({om::detail::kept_kind::diff, all.diff(name).value()});
    };
    CHECK(goes("gone"));
    CHECK(goes("low"));
    SECTION("an image")
    {
        all.import("other");
        reader.read_again(stop);
        CHECK(goes("gone"));
        CHECK_FALSE(goes("low"));
    }
    SECTION("the same image again")
    {
        all.import("gone");
        reader.read_again(stop);
        CHECK_FALSE(goes("gone"));
    }
    SECTION("a layer without an image")
    {
        std::ofstream(all.scratch / "tar") << all.tar("other");
        static_cast<void>(get(all.repository.create_layer(all.scratch / "tar", chain_id::of(all.diff("low")))));
        reader.read_again(stop);
        CHECK_FALSE(goes("low"));
    }
    SECTION("a lease")
    {
        const om::lease held = get(all.repository.lease(lease_request().layer(all.chain("gone"))));
        reader.read_again(stop);
        CHECK_FALSE(goes("gone"));
    }
    SECTION("a lease that was extended")
    {
        early.add(om::detail::lease_content().diff(all.diff("gone")));
        reader.read_again(stop);
        CHECK_FALSE(goes("gone"));
    }
}

TEST_CASE("a cancelled collection leaves a consistent repository")
{
    filled all;
    std::vector<digest> images;
    for (int i = 0; i < 20; ++i)
        get(all.repository.remove_image(all.import("image" + std::to_string(i))));
    for (int after = 0; after < 30; ++after) {
        asio::io_context context;
        asio::cancellation_signal signal;
        asio::co_spawn(context, all.repository.collect(),
                       asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr, const om::collect_report&) {}));
        for (int i = 0; i < after && context.run_one_for(1s) == 1; ++i)
            continue;
        signal.emit(asio::cancellation_type::terminal);
        context.run_for(60s);
        CHECK(all.is_whole());
        CHECK(fs::is_empty(all.base / "tmp"));
        CHECK(fs::is_empty(all.base / "leases"));
    }
    all.collect();
    CHECK(all.repository.layers().empty());
    CHECK_FALSE(all.has("low"));
}

TEST_CASE("a new repository and a repository that was emptied have the same files")
{
    const auto files = [](const fs::path& base) {
        std::vector<std::string> out;
        for (const auto& entry : fs::recursive_directory_iterator(base))
            if (!entry.is_directory())
                out.push_back(fs::relative(entry.path(), base).string());
        std::sort(out.begin(), out.end());
        return out;
    };
    filled all, fresh;
    fresh.collect();
    get(all.repository.remove_image(all.import("image")));
    all.collect();
    CHECK(files(all.base) == files(fresh.base));
}
