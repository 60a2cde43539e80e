// An operation publishes everything or nothing, and what it published is durable when it has returned.
#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/may_mount.hpp"
#include "support/records.hpp"
#include "support/run_coroutine.hpp"
#include "support/scripted_stream.hpp"
#include "support/skip.hpp"
#include "support/tree.hpp"
#include "support/watched_calls.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <thread>

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace om = overmount;
using ::test::get;
using om::digest;
using om::durability;
using om::errc;
using om::finding_kind;
using om::test::error_of;
using om::test::image_source;
using om::test::list_tree;
using om::test::names_in;
using om::test::oci_layout_writer;
using om::test::read_text;
using om::test::run_quietly;
using om::test::scratch_directory;
using om::test::scripted_stream;
using om::test::tar_writer;
using om::test::watched_calls;
using om::test::write_text;

namespace {

// A virtual repository: these tests need no root.
using repository = om::virtual_repository;

repository open(const fs::path& base, durability sync = durability::none, unsigned workers = 2)
{
    return get(repository::open(base, om::repository_options().workers(workers).sync(sync)));
}

std::string tar_of(const std::string& name) { return tar_writer().file(name, "content of " + name).finish(); }

image_source image_of(const std::vector<std::string>& layers, std::vector<std::string> tags)
{
    image_source out;
    for (const std::string& name : layers)
        out.layers.push_back({tar_of(name)});
    out.tags = std::move(tags);
    return out;
}

om::oci_layout layout(const fs::path& where, const std::vector<image_source>& images)
{
    oci_layout_writer writer;
    for (const image_source& image : images)
        writer.add(image);
    writer.finish().write_directory(where);
    return om::oci_layout(where.string());
}

om::import_options options() { return om::import_options().wanted({"linux", "amd64"}); }

template <class Repository, class Source>
void import(const Repository& into, Source source, om::import_options how = options())
{
    static_cast<void>(get(into.import_images(std::move(source), std::move(how))));
}

// A source that must not be used.
class untouchable_importer
{
public:
    explicit untouchable_importer(std::atomic<int>& asked) : asked_(&asked) {}
    [[nodiscard]] asio::awaitable<std::vector<om::found_image>> discover(om::import_context) const
    {
        ++*asked_;
        co_return std::vector<om::found_image>();
    }

private:
    std::atomic<int>* asked_;
};

template <class Value>
asio::awaitable<void> drop(asio::awaitable<Value> task)
{
    static_cast<void>(co_await std::move(task));
}

// The record of the only diff with these bytes.
om::diff_record diff_of(const repository& of, const std::string& tar) { return of.diff(om::diff_id(digest::of(tar))); }

fs::path image_directory(const fs::path& base, const digest& id) { return base / "images" / om::detail::digest_path(id); }

} // namespace

TEST_CASE("repositories can be opened during an import of twenty layers with one worker")
{
    const scratch_directory scratch;
    image_source image = image_of({}, {"example.org/a:1"});
    for (int i = 0; i < 20; ++i)
        image.layers.push_back({tar_of(std::to_string(i))});
    const auto source = layout(scratch / "source", {image});
    const auto how = om::repository_options().pool(om::worker_pool(1)).sync(durability::none);
    const auto open_often = [](fs::path base, om::repository_options same, const bool* done, int* opened) -> asio::awaitable<void> {
        do {
            static_cast<void>(co_await repository::open(base, same));
            ++*opened;
        } while (!*done);
    };
    const auto both = [&](asio::io_context& context, bool* done, int* opened) -> asio::awaitable<void> {
        const auto into = co_await repository::open(scratch / "repository", how);
        for (int i = 0; i < 2; ++i)
            asio::co_spawn(context, open_often(scratch / "repository", how, done, opened), [](std::exception_ptr) {});
        co_await drop(into.import_images(source, options()));
        *done = true;
    };
    asio::io_context context;
    bool done = false;
    int opened = 0;
    std::exception_ptr failure;
    asio::co_spawn(context, both(context, &done, &opened), [&](std::exception_ptr ended) { failure = ended; });
    context.run_for(std::chrono::seconds(60));
    CHECK(done);
    CHECK_FALSE(failure);
    CHECK(opened > 1);
    CHECK(open(scratch / "repository").images().size() == 1);
}

TEST_CASE("an invalid tag in the options is refused before anything is read, and nothing is left")
{
    const scratch_directory scratch;
    const auto into = open(scratch / "repository");
    import(into, layout(scratch / "there", {image_of({"a", "b"}, {"example.org/there:1"})}));
    const auto there = into.find_image("example.org/there:1");
    const auto source = layout(scratch / "source", {image_of({"c"}, {"example.org/c:1"})});
    const auto before = list_tree(scratch / "repository");
    const auto bad = options().tag("example.org/good:1").tag("Not A Name");
    const auto refused = [&](const char* what, const std::function<void()>& act) {
        CAPTURE(what);
        CHECK(error_of(act).code() == errc::invalid_reference);
        CHECK(list_tree(scratch / "repository") == before);
    };
    refused("a layout", [&] { import(into, source, bad); });
    std::atomic<int> asked = 0;
    refused("a source of somebody's own", [&] { import(into, untouchable_importer(asked), bad); });
    refused("one image of it", [&] { static_cast<void>(get(into.import_image(untouchable_importer(asked), bad))); });
    CHECK(asked == 0);
    refused("a file that is not there", [&] { import(into, om::archive_file((scratch / "nowhere").string()), bad); });
    auto script = std::make_shared<scripted_stream::script>("bytes");
    refused("a stream", [&] {
        asio::io_context context;
        std::exception_ptr failure;
        om::archive_stream stream(om::byte_stream(scripted_stream(context.get_executor(), script)));
        asio::co_spawn(context, drop(into.import_images(std::move(stream), bad)), [&](std::exception_ptr ended) { failure = ended; });
        context.run_for(std::chrono::seconds(60));
        if (failure)
            std::rethrow_exception(failure);
    });
    CHECK(script->reads == 0);
    om::image_config_edit edit(there.config());
    edit.author("another");
    const auto other = edit.build(om::limits());
    refused("a config", [&] { static_cast<void>(get(into.create_image(other, std::nullopt, bad))); });
    refused("a squash", [&] { static_cast<void>(get(into.squash(there, bad))); });
    refused("a name for an image", [&] { get(into.add_tag("Not A Name", there.id())); });
}

TEST_CASE("an invalid tag of a commit is refused before anything is read, and nothing is left")
{
    if (!om::test::may_mount())
        OVERMOUNT_SKIP("may not mount");
    const scratch_directory scratch;
    const auto into = get(om::repository::open(scratch / "repository", om::repository_options().workers(2)));
    import(into, layout(scratch / "source", {image_of({"a"}, {"example.org/a:1"})}));
    auto mounted = get(into.find_image("example.org/a:1").mount(om::mount_options().writable(true)));
    write_text(fs::path(mounted.target()) / "new", "text");
    const auto layers = into.layers().size();
    CHECK(error_of([&] {
              static_cast<void>(get(mounted.commit(om::commit_options().tag("Not A Name"))));
          }).code() == errc::invalid_reference);
    CHECK(into.images().size() == 1);
    CHECK(into.layers().size() == layers);
    get(mounted.unmount());
}

TEST_CASE("the images of an import appear together, with their tags")
{
    const scratch_directory scratch;
    const auto into = open(scratch / "repository");
    constexpr int rounds = 40;
    std::atomic<bool> done = false;
    std::atomic<int> broken = 0, lists = 0;
    std::thread reader([&] {
        const auto other = open(scratch / "repository");
        while (!done) {
            if (other.images().size() % 3 != 0)
                ++broken;
            const auto tags = other.tags();
            if (tags.size() % 9 != 0)
                ++broken;
            std::set<digest> images;
            for (const om::tag_record& tag : tags)
                images.insert(tag.image);
            if (images.size() % 3 != 0)
                ++broken;
            ++lists;
        }
    });
    for (int round = 0; round < rounds; ++round) {
        std::vector<image_source> images;
        for (int i = 0; i < 3; ++i) {
            auto image = image_of({"same"}, {});
            for (int tag = 0; tag < 3; ++tag)
                image.tags.push_back("example.org/t" + std::to_string(3 * i + tag) + ":1");
            image.runtime = R"({"User":")" + std::to_string(3 * round + i) + "\"}";
            images.push_back(std::move(image));
        }
        import(into, layout(scratch / std::to_string(round), images));
    }
    done = true;
    reader.join();
    CHECK(broken == 0);
    CHECK(lists > 0);
    CHECK(into.images().size() == 3 * rounds);
    CHECK(into.tags().size() == 9);
}

TEST_CASE("an import that a dead process committed is visible, and is completed by the next open")
{
    const scratch_directory scratch;
    const auto into = open(scratch / "repository");
    import(into, layout(scratch / "source", {image_of({"a"}, {"example.org/a:1"})}));
    const auto image = into.find_image("example.org/a:1");
    const auto tag = into.tag("example.org/a:1");
    // Restores the state right after the commit.
    om::detail::import_record record;
    record.images.push_back({image.id(), image.config().bytes(), false});
    record.tags.push_back(tag);
    fs::remove_all(image_directory(scratch / "repository", image.id()));
    fs::remove_all(scratch / "repository/tags");
    fs::create_directory(scratch / "repository/tags");
    const auto seen = get(repository::open(scratch / "repository", om::repository_options().workers(2)));
    CHECK(seen.images().empty());
    write_text(scratch / "repository/imports/0123.json", record.text());
    CHECK(seen.images().size() == 1);
    CHECK(seen.find_image("example.org/a:1").id() == image.id());
    CHECK(seen.find_image(image.id().hex().substr(0, 12)).id() == image.id());
    CHECK(seen.tag("example.org/a:1").image == image.id());
    CHECK(seen.tags().size() == 1);
    CHECK(get(seen.check()).ok());
    CHECK(fs::is_empty(scratch / "repository/tags"));
    static_cast<void>(open(scratch / "repository"));
    CHECK_FALSE(fs::exists(scratch / "repository/imports/0123.json"));
    CHECK(fs::exists(image_directory(scratch / "repository", image.id()) / "config.json"));
    CHECK(names_in(scratch / "repository/tags").size() == 1);
    CHECK(seen.images().size() == 1);
    CHECK(seen.tags().size() == 1);
}

TEST_CASE("an image that is removed while it is imported again exists when the import has returned")
{
    const durability sync = GENERATE(durability::none, durability::batch);
    const scratch_directory scratch;
    const auto into = open(scratch / "repository", sync), other = open(scratch / "repository", sync);
    const auto first = image_of({"a"}, {"example.org/a:1"}), second = image_of({"b"}, {"example.org/b:1"});
    import(into, layout(scratch / "first", {first}));
    const digest id = into.find_image("example.org/a:1").id();
    // While the layer of the other image is unpacked: by then the import knows what it will publish.
    std::atomic<int> removed = 0;
    auto how = options().progress([&](const om::layer_progress&) {
        if (removed++ == 0)
            get(other.remove_image(id));
    });
    import(into, layout(scratch / "both", {first, second}), std::move(how));
    CHECK(removed > 0);
    CHECK(into.images().size() == 2);
    CHECK(into.find_image("example.org/a:1").id() == id);
    CHECK(get(into.check()).ok());
    CHECK(names_in(scratch / "repository/imports") == om::test::file_names{"last"});
}

TEST_CASE("the pieces of the progress of an import add up to what it has read of each layer")
{
    const scratch_directory scratch;
    image_source source = image_of({"small"}, {"example.org/a:1"});
    std::mt19937 random(1);
    std::string noise(1 << 20, '\0'); // several pieces
    std::generate(noise.begin(), noise.end(), [&] { return static_cast<char>(random()); });
    source.layers.push_back({tar_writer().file("noise", noise).finish()});
    const auto from = layout(scratch / "layout", {source});

    std::mutex mutex;
    std::map<std::string, std::uint64_t> pieces, last, sizes;
    std::size_t calls = 0;
    auto how = options().progress([&](const om::layer_progress& at) {
        const std::lock_guard guard(mutex);
        ++calls;
        pieces[at.layer()] += at.piece();
        last[at.layer()] = at.read();
        sizes[at.layer()] = at.size().value();
    });
    import(open(scratch / "repository"), from, how);
    CHECK(sizes.size() == 2);
    CHECK(calls > 2);
    CHECK(pieces == sizes);
    CHECK(last == sizes);
}

TEST_CASE("an image that was imported without a sync becomes durable when it is imported with one")
{
    const scratch_directory scratch;
    const fs::path base = scratch / "repository";
    const auto source = layout(scratch / "source", {image_of({"a"}, {"example.org/a:1"})});
    const std::string diff = "diffs/" + om::detail::digest_path(digest::of(tar_of("a")));
    import(open(base), source);
    const digest id = open(base).find_image("example.org/a:1").id();
    CHECK_FALSE(fs::exists(image_directory(base, id) / "durable"));
    CHECK(diff_of(open(base), tar_of("a")).sync == durability::none);

    const watched_calls watch(base);
    const durability sync = GENERATE(durability::batch, durability::full);
    SECTION("the import of the same image") { import(open(base, sync), source); }
    SECTION("a tag") { get(open(base, sync).add_tag("example.org/b:1", id)); }
    SECTION("an image of the same layers")
    {
        const auto there = open(base, sync).find_image("example.org/a:1");
        static_cast<void>(get(open(base, sync).create_image(there.config(), there.layers().front())));
    }
    CHECK(fs::exists(image_directory(base, id) / "durable"));
    CHECK(diff_of(open(base), tar_of("a")).sync != durability::none);
    const auto calls = watch.calls();
    const auto at = [&](const std::string& call) { return std::find(calls.begin(), calls.end(), call) - calls.begin(); };
    const auto end = std::ssize(calls);
    // The data is synced first, then the note that it is durable, then what relies on it.
    CHECK(at("fsync " + diff + "/layer.tar") < at("rename " + diff + "/diff.json"));
    CHECK(at("rename " + diff + "/diff.json") < end);
    const std::string layer = om::detail::layer_path(om::chain_id::of(om::diff_id(digest::of(tar_of("a")))));
    CHECK(at("fsync " + layer + "/layer.json") < end);
    CHECK(at("fsync " + layer) < end);
    const std::string image = "images/" + om::detail::digest_path(id);
    CHECK(at("fsync " + image + "/config.json") < at("rename " + image + "/durable"));
    CHECK(at("rename " + diff + "/diff.json") < at("rename " + image + "/durable"));
    CHECK(at("rename " + image + "/durable") < end);
    CHECK(at("fsync diffs") < end);
    CHECK(at("fsync layers") < end);
    CHECK(at("fsync images") < end);
    CHECK(at("fsync tags") <= end);
}

TEST_CASE("an import with a sync syncs the file system once, before anything is published")
{
    const scratch_directory scratch;
    const fs::path base = scratch / "repository";
    const auto into = open(base, durability::batch);
    const auto source = layout(scratch / "source", {image_of({"a", "b", "c"}, {"example.org/a:1"})});
    const watched_calls watch(base);
    import(into, source);
    const auto calls = watch.calls();
    const auto begins = [](const char* with) { return [with](const std::string& call) { return call.starts_with(with); }; };
    CHECK(std::count_if(calls.begin(), calls.end(), begins("syncfs")) == 1);
    const auto sync = std::find_if(calls.begin(), calls.end(), begins("syncfs"));
    const auto diffs = std::find_if(calls.begin(), calls.end(), begins("rename diffs/"));
    const auto layers = std::find_if(calls.begin(), calls.end(), begins("rename layers/"));
    const auto commit = std::find_if(calls.begin(), calls.end(), begins("rename imports/"));
    const auto tags = std::find_if(calls.begin(), calls.end(), begins("rename tags/"));
    REQUIRE(tags != calls.end());
    CHECK(sync < diffs);
    CHECK(diffs < layers);
    CHECK(layers < commit);
    CHECK(commit < tags);
    CHECK(std::find(diffs, layers, "fsync diffs") != layers);
    CHECK(std::find(layers, commit, "fsync layers") != commit);
    CHECK(std::find(commit, tags, "fsync imports") != tags);
    CHECK(std::find(tags, calls.end(), "fsync tags") != calls.end());
    // Nothing is left to do the next time.
    const auto id = into.find_image("example.org/a:1").id();
    CHECK(fs::exists(image_directory(base, id) / "durable"));
}

TEST_CASE("a damaged image hides no other image, is named by a look-up, and is found by a check")
{
    const scratch_directory scratch;
    const fs::path base = scratch / "repository";
    const auto into = open(base);
    import(into, layout(scratch / "source", {image_of({"a"}, {"example.org/a:1"}), image_of({"b"}, {"example.org/b:1"})}));
    const digest id = into.find_image("example.org/b:1").id();
    const std::string path = "images/" + om::detail::digest_path(id) + "/config.json";
    write_text(base / path, read_text(base / path).substr(0, 20));
    std::vector<std::string> told;
    const auto images = into.images([&](const om::error& damaged) { told.push_back(damaged.subject()); });
    REQUIRE(images.size() == 1);
    CHECK(images.front().id() == into.tag("example.org/a:1").image);
    CHECK((told == std::vector<std::string>{path}));
    CHECK(into.images().size() == 1);
    CHECK(into.tags().size() == 2);
    CHECK(error_of([&] { static_cast<void>(into.find_image("example.org/b:1")); }).subject() == path);
    const auto report = get(into.check());
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings[0].kind == finding_kind::config_changed);
    CHECK(report.findings[0].object == id.string());
}

TEST_CASE("a truncated record of an import is found by a check")
{
    const scratch_directory scratch;
    const auto into = open(scratch / "repository");
    import(into, layout(scratch / "source", {image_of({"a"}, {"example.org/a:1"})}));
    write_text(scratch / "repository/imports/0123.json", "{\"version\":1");
    const auto report = get(into.check());
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings[0].kind == finding_kind::record_unreadable);
    CHECK(report.findings[0].object == "imports/0123.json");
    CHECK(into.images().size() == 1);
}

TEST_CASE("a read-only repository is listed, inspected, exported and checked, and a write fails with the reason")
{
    if (!om::test::may_mount())
        OVERMOUNT_SKIP("may not mount");
    const scratch_directory scratch;
    import(open(scratch / "repository"), layout(scratch / "source", {image_of({"a"}, {"example.org/a:1"})}));
    const fs::path shown = scratch / "read-only";
    fs::create_directory(shown);
    REQUIRE(run_quietly({"mount", "--bind", (scratch / "repository").c_str(), shown.c_str()}) == 0);
    REQUIRE(run_quietly({"mount", "-o", "remount,bind,ro", shown.c_str()}) == 0);
    const auto before = list_tree(scratch / "repository");
    const auto from = open(shown);
    REQUIRE(from.images().size() == 1);
    CHECK(from.tags().size() == 1);
    const auto image = from.find_image("example.org/a:1");
    CHECK(from.layer(image.layers().front()).diff() == om::diff_id(digest::of(tar_of("a"))));
    CHECK(from.diff(from.layer(image.layers().front()).diff()).entries == 1);
    om::oci_archive_target target((scratch / "out.tar").string());
    get(from.export_images({image}, std::move(target)));
    CHECK(fs::file_size(scratch / "out.tar") > 0);
    CHECK(get(from.check()).ok());
    const auto refused = [&](const std::function<void()>& act) {
        const auto failure = error_of(act);
        CHECK(failure.code() == errc::unsupported_repository);
        CHECK(std::string(failure.what()).find("read-only") != std::string::npos);
    };
    refused([&] { get(from.add_tag("example.org/b:1", image.id())); });
    refused([&] { get(from.remove_tag("example.org/a:1")); });
    refused([&] { get(from.remove_image(image.id())); });
    refused([&] { import(from, layout(scratch / "other", {image_of({"b"}, {"example.org/b:1"})})); });
    CHECK(list_tree(scratch / "repository") == before);
}
