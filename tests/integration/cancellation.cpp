// Each operation is cancelled, or its context is destroyed, after each possible number of handlers. The repository must then be as
// before, or have the complete result, and no descriptor stays open.
#include <overmount/overmount.hpp>
#include <overmount/repository/records/store.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/may_mount.hpp"
#include "support/open_descriptors.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/scripted_stream.hpp"
#include "support/skip.hpp"
#include "support/tree.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/this_coro.hpp>

#include <atomic>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>

namespace asio = boost::asio;
using overmount::test::may_mount;
using ::test::store_result;
namespace fs = std::filesystem;
namespace om = overmount;

using namespace om::test;

namespace {

using repository = om::repository;

template <class Value>
asio::awaitable<void> drop(asio::awaitable<Value> task)
{
    static_cast<void>(co_await std::move(task));
}

repository open(const fs::path& base)
{
    std::optional<repository> out;
    const auto options = om::repository_options().workers(2).sync(om::durability::none);
    ::test::run_coroutine(store_result(repository::open(base, options), out));
    return *out;
}

// Everything in a repository except directories, which may be made earlier, and times of whiteouts, tags and corrections.
std::set<std::string> files_of(const fs::path& base)
{
    std::istringstream lines(list_tree(base));
    std::set<std::string> out;
    for (std::string line; std::getline(lines, line);)
        if (const std::string path = line.substr(0, line.find(' ')); line.find(" d ") == std::string::npos)
            out.insert(path.find("/rootfs/") != std::string::npos ? line : path);
    out.erase("repository.lock");
    return out;
}

bool pending(const fs::path& base)
{
    for (const char* part : {"tmp", "claims", "leases"})
        if (!fs::is_empty(base / part))
            return true;
    return false;
}

// The sources and results of the operations.
struct place
{
    place()
    {
        docker_archive_writer docker;
        docker.add(image());
        archive = docker.finish().tar();
        docker.finish().write_tar(scratch / "archive");
        oci_layout_writer layout;
        layout.add(image());
        layout.finish().write_directory(scratch / "layout");
        std::ofstream(scratch / "tar", std::ios::binary) << image().layers[0].tar;
    }
    static const image_source& image()
    {
        static const image_source made{
            .layers = {{tar_writer().directory("d").file("d/a", std::string(300000, 'a')).finish()},
                       {tar_writer().file("d/b", "b").finish()}},
            .tags = {"x:1"}};
        return made;
    }
    [[nodiscard]] fs::path base() const { return scratch / "repository"; }

    scratch_directory scratch;
    std::string archive;
};

using operation = std::function<asio::awaitable<void>(repository, asio::io_context&)>;

// Runs the operation on a context of its own for `handlers` handlers; then calls `stop`, which may run the rest.
struct run
{
    explicit run(const repository& on, const operation& what, std::size_t handlers)
    {
        asio::co_spawn(context, what(on, context),
                       asio::bind_cancellation_slot(signal.slot(), [this](std::exception_ptr end) {
                           over = true;
                           failure = end;
                       }));
        for (std::size_t i = 0; i < handlers && !over; ++i)
            if (context.run_one_for(std::chrono::seconds(60)) == 0)
                break;
        too_late = over;
    }
    void cancel()
    {
        signal.emit(asio::cancellation_type::terminal);
        context.run_for(std::chrono::seconds(60));
        REQUIRE(over);
        if (!failure)
            return;
        try {
            std::rethrow_exception(failure);
        } catch (const om::error& ended) {
            CHECK(ended.code() == asio::error::operation_aborted);
        }
    }

    asio::cancellation_signal signal; // outlives the operation
    asio::io_context context;
    std::exception_ptr failure;
    bool over = false, too_late = false;
};

struct case_of
{
    const char* name;
    operation what;
};

std::vector<case_of> imports(const place& at)
{
    const auto options = om::import_options().wanted({"linux", "amd64"});
    const auto stream = [&at](asio::io_context& context) {
        return om::byte_stream(scripted_stream(context.get_executor(),
                                               std::make_shared<scripted_stream::script>(at.archive, 100000)));
    };
    return {{"an archive",
             [=, &at](repository on, asio::io_context&) {
                 om::docker_archive source((at.scratch / "archive").string());
                 return drop(on.import_images(std::move(source), options));
             }},
            {"a layout",
             [=, &at](repository on, asio::io_context&) {
                 om::oci_layout source((at.scratch / "layout").string());
                 return drop(on.import_images(std::move(source), options));
             }},
            {"a file read once",
             [=, &at](repository on, asio::io_context&) {
                 om::archive_file source((at.scratch / "archive").string());
                 return drop(on.import_images(std::move(source), options));
             }},
            {"a stream",
             [=](repository on, asio::io_context& context) {
                 return drop(on.import_images(om::archive_stream(stream(context)), options));
             }},
            {"a layer from a file",
             [&at](repository on, asio::io_context&) { return drop(on.create_layer(at.scratch / "tar")); }},
            {"a layer from a stream", [](repository on, asio::io_context& context) {
                 return drop(on.create_layer(om::byte_stream(scripted_stream(
                     context.get_executor(),
                     std::make_shared<scripted_stream::script>(place::image().layers[0].tar, 50000)))));
             }}};
}

// Checks the repository after the operation, however it ended.
void check_left(const place& at, const operation& what, const std::set<std::string>& complete, bool done)
{
    const auto now = open(at.base());
    CHECK_FALSE(pending(at.base()));
    const auto left = files_of(at.base());
    if (done) {
        CHECK(left == complete);
    } else {
        CHECK(now.tags().empty());
        CHECK(now.images().empty());
    }
    for (const std::string& line : left) {
        CAPTURE(line);
        CHECK(complete.contains(line));
    }
    // Each diff is complete.
    for (const std::string& line : complete) {
        const auto end = line.find("/diff.json");
        if (end == std::string::npos || !left.contains(line))
            continue;
        for (const std::string& other : complete)
            if (other.starts_with(line.substr(0, end) + "/"))
                CHECK(left.contains(other));
    }
    run again(now, what, 1000000);
    REQUIRE(again.over);
    CHECK_FALSE(again.failure);
    CHECK(files_of(at.base()) == complete);
}

} // namespace

TEST_CASE("an import or create_layer that is cancelled after any number of handlers leaves nothing, or is complete")
{
    const place at;
    for (const auto& [name, what] : imports(at)) {
        CAPTURE(name);
        REQUIRE_FALSE(run(open(at.base()), what, 1000000).failure);
        const auto complete = files_of(at.base());
        std::size_t stopped = 0;
        for (std::size_t handlers = 0;; ++handlers) {
            CAPTURE(handlers);
            fs::remove_all(at.base());
            const std::size_t descriptors = open_descriptors();
            bool too_late = false, done = false;
            {
                const auto on = open(at.base());
                run one(on, what, handlers);
                too_late = one.too_late;
                one.cancel();
                done = !one.failure;
                stopped += one.failure != nullptr;
                CHECK_FALSE(pending(at.base()));
            }
            CHECK(open_descriptors() == descriptors);
            check_left(at, what, complete, done);
            if (too_late)
                break;
        }
        CHECK(stopped > 2);
        fs::remove_all(at.base());
    }
}

TEST_CASE("an import or create_layer whose context is destroyed after any number of handlers leaves only what the next operation removes")
{
    const place at;
    for (const auto& [name, what] : imports(at)) {
        CAPTURE(name);
        REQUIRE_FALSE(run(open(at.base()), what, 1000000).failure);
        const auto complete = files_of(at.base());
        for (std::size_t handlers = 0;; ++handlers) {
            CAPTURE(handlers);
            fs::remove_all(at.base());
            const std::size_t descriptors = open_descriptors();
            bool too_late = false;
            {
                const auto on = open(at.base());
                too_late = run(on, what, handlers).too_late;
            }
            CHECK(open_descriptors() == descriptors);
            if (too_late)
                break;
            const auto now = open(at.base());
            overmount::detail::store(at.base(), overmount::on_disk_storage::form(), false).sweep(); // as the next write does
            CHECK_FALSE(pending(at.base()));
            for (const std::string& line : files_of(at.base())) {
                CAPTURE(line);
                CHECK(complete.contains(line));
            }
            run again(now, what, 1000000);
            CHECK_FALSE(again.failure);
            CHECK(files_of(at.base()) == complete);
        }
        fs::remove_all(at.base());
    }
}

TEST_CASE("a mount or unmount that is cancelled, or whose context is destroyed, leaves an owned mount or none")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const place at;
    const auto on = open(at.base());
    REQUIRE_FALSE(run(on, imports(at).front().what, 1000000).failure);
    const auto image = on.images().front();
    const auto before = files_of(at.base());
    const bool writable = GENERATE(false, true), teardown = GENERATE(false, true), of_layer = GENERATE(false, true);
    CAPTURE(writable, teardown, of_layer);
    const auto options = om::mount_options().writable(writable);
    const auto mount_it = [&] { return of_layer ? image.top()->mount(options) : image.mount(options); };
    const std::size_t descriptors = open_descriptors();
    const auto check_gone = [&] {
        CHECK(mounts_below(at.scratch.path()).empty());
        CHECK(on.mounts().empty());
        CHECK(files_of(at.base()) == before);
        CHECK(open_descriptors() == descriptors);
    };
    for (bool more = true, unmounting = false;; more = true) {
        for (std::size_t handlers = 0; more; ++handlers) {
            CAPTURE(handlers, unmounting);
            std::optional<om::mount> mounted;
            if (unmounting)
                ::test::run_coroutine(store_result(mount_it(), mounted));
            const operation what = [&](repository, asio::io_context&) {
                return unmounting ? mounted->unmount() : store_result(mount_it(), mounted);
            };
            {
                run one(on, what, handlers);
                more = !one.too_late;
                if (!teardown) {
                    one.cancel();
                    if (!unmounting)
                        CHECK(mounted.has_value() == !one.failure);
                }
            }
            if (!unmounting && mounted)
                CHECK(mounts_below(at.scratch.path()).size() == 1);
            const bool given = mounted.has_value();
            mounted.reset();
            CHECK(mounts_below(at.scratch.path()).empty());
            // What was written is kept, if the mount was ever given to a caller who could write.
            for (const om::mount_record& left : on.mounts()) {
                CHECK((given && writable));
                ::test::run_coroutine(on.unmount(left));
            }
            check_gone();
        }
        if (std::exchange(unmounting, true))
            break;
    }
}

namespace {

// The repository, files and handles that the operations of the next case use.
struct subject
{
    explicit subject(const place& where)
        : at(where), on(::test::get(repository::open(where.base(), options()))), image(on.find_image("x:1")), layer(*image.top())
    {
        for (const om::image& one : on.images())
            if (one != image)
                unneeded_image = one;
        for (const om::layer& one : on.layers())
            if (one != layer && one != *layer.parent())
                unneeded = one;
        for (const om::mount_record& one : on.mounts())
            mounted.push_back(one);
    }
    [[nodiscard]] om::repository_options options() const
    {
        return om::repository_options().pool(pool).sync(om::durability::none);
    }

    const place& at;
    std::atomic<bool> free = false; // the only worker; it waits for that until the pool goes
    om::worker_pool pool{1};
    asio::io_context context;
    repository on;
    om::image image, unneeded_image;
    om::layer layer, unneeded;
    std::vector<om::mount_record> mounted;
};

struct named_operation
{
    const char* name;
    std::function<asio::awaitable<void>(subject&)> what;
    bool is_heeded = true;
};

// An operation that waits for a worker thread before it does anything.
std::vector<named_operation> all_operations(const place& at, bool with_mounts)
{
    std::vector<named_operation> out;
    for (const auto& [name, what] : imports(at))
        out.push_back({name, [what](subject& on) { return what(on.on, on.context); }});
    const auto add = [&out](const char* name, auto what, bool is_heeded = true) { out.push_back({name, std::move(what), is_heeded}); };
    const auto request = [](subject& s) { return om::lease_request().image(s.image.id()); };
    add("open", [](subject& s) { return drop(repository::open(s.at.base(), s.options())); });
    add("import_image", [](subject& s) { return drop(s.on.import_image(om::oci_layout((s.at.scratch / "layout").string()))); });
    add("import_asset", [](subject& s) { return drop(s.on.import_asset(s.layer.asset())); });
    add("export_images", [](subject& s) { return s.on.export_images({s.image}, om::docker_archive_target(s.at.scratch / "out")); });
    add("export_to", [](subject& s) { return s.image.export_to(om::oci_layout_target(s.at.scratch / "out")); });
    add("remove_image", [](subject& s) { return s.on.remove_image(s.unneeded_image.id()); });
    add("add_tag", [](subject& s) { return s.on.add_tag("y:1", s.image.id()); });
    add("remove_tag", [](subject& s) { return s.on.remove_tag("x:1"); });
    add("create_image", [](subject& s) { return drop(s.on.create_image(s.image.config())); });
    add("diff", [](subject& s) { return drop(s.on.diff(std::nullopt, s.layer.id())); });
    add("flatten", [](subject& s) { return drop(s.on.flatten(s.image)); });
    add("squash", [](subject& s) { return drop(s.on.squash(s.image)); });
    add("check", [](subject& s) { return drop(s.on.check()); });
    add("repair", [](subject& s) { return drop(s.on.repair()); });
    add("repair from", [](subject& s) { return drop(s.on.repair(om::oci_layout((s.at.scratch / "layout").string()))); });
    add("collect", [](subject& s) { return drop(s.on.collect()); });
    add("remove_layer", [](subject& s) { return s.on.remove_layer(s.unneeded); });
    add("remove", [](subject& s) { return s.unneeded.remove(); });
    add("remove_unused_images", [](subject& s) { return drop(s.on.remove_unused_images()); });
    add("usage", [](subject& s) { return drop(s.on.usage()); });
    add("lease", [request](subject& s) { return drop(s.on.lease(request(s))); });
    add("lease_for", [request](subject& s) { return s.on.lease_for("new", std::chrono::hours(1), request(s)); });
    add("end_lease", [](subject& s) { return s.on.end_lease("kept"); });
    add("image.files", [](subject& s) { return s.image.files([](const om::tar::entry&, const om::layer&) {}); });
    add("image.open", [](subject& s) { return drop(s.image.open("d/a")); });
    add("layer_of", [](subject& s) { return drop(s.image.layer_of("d/a")); });
    add("layer.files", [](subject& s) { return s.layer.files([](const om::tar::entry&) {}); });
    add("layer.open", [](subject& s) { return drop(s.layer.open("d/b")); });
    add("pack", [](subject& s) { return drop(s.layer.pack()); });
    add("verify", [](subject& s) { return s.layer.verify(); });
    add("asset.list", [](subject& s) { return s.layer.asset().list([](const om::tar::entry&) {}); });
    if (with_mounts) {
        add("image.mount", [](subject& s) { return drop(s.image.mount()); });
        add("layer.mount", [](subject& s) { return drop(s.layer.mount()); });
        add("state_of", [](subject& s) { return drop(s.on.state_of(s.mounted.front())); });
        add("commit", [](subject& s) { return drop(s.on.commit(s.mounted.front())); });
        add("mount_again", [](subject& s) { return drop(s.on.mount_again(s.mounted.front())); });
        add("unmount", [](subject& s) { return s.on.unmount(s.mounted.front()); }, false);
    }
    return out;
}

asio::awaitable<void> heed_all(asio::awaitable<void> task)
{
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    co_await std::move(task);
}

// A repository with what the operations need.
repository fill(const place& at)
{
    auto on = open(at.base());
    REQUIRE_FALSE(run(on, imports(at).front().what, 1000000).failure);
    std::ofstream(at.scratch / "unneeded", std::ios::binary) << tar_writer().file("u", "unneeded").finish();
    static_cast<void>(::test::get(on.create_layer(at.scratch / "unneeded")));
    auto config = om::image_config::parse(
        R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}})", om::limits());
    static_cast<void>(::test::get(on.create_image(std::move(config))));
    ::test::get(on.lease_for("kept", std::chrono::hours(1), om::lease_request()));
    return on;
}

void copy_repository(const fs::path& from, const fs::path& to)
{
    fs::remove_all(to);
    REQUIRE(run_quietly({"cp", "-a", from.c_str(), to.c_str()}) == 0); // with times and whiteouts
}

} // namespace

TEST_CASE("each operation honours each type of cancellation that reaches it, and the repository is as before")
{
    const place at;
    const bool with_mounts = may_mount();
    {
        const auto on = fill(at);
        if (with_mounts) // a stopped mount
            std::ofstream(::test::get(on.find_image("x:1").mount(om::mount_options().writable(true))).target() + "/d/new") << "new";
    }
    const auto kept = at.scratch / "kept";
    copy_repository(at.base(), kept);
    const auto before = files_of(kept);
    for (const auto& [name, what, is_heeded] : all_operations(at, with_mounts)) {
        for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
            for (const bool all : {false, true}) {
                CAPTURE(name, type, all);
                fs::remove_all(at.scratch / "out");
                copy_repository(kept, at.base());
                std::optional<std::exception_ptr> ended;
                {
                    subject one(at);
                    one.pool.post([&one] { one.free.wait(false); });
                    asio::cancellation_signal signal;
                    asio::co_spawn(one.context, all ? heed_all(what(one)) : what(one),
                                   asio::bind_cancellation_slot(signal.slot(), [&ended](std::exception_ptr why) { ended = why; }));
                    one.context.poll();
                    CHECK_FALSE(ended);
                    signal.emit(type);
                    one.context.poll(); // the signal comes by a handler
                    one.free = true;
                    one.free.notify_all();
                    one.context.run_for(std::chrono::seconds(60));
                }
                REQUIRE(ended);
                boost::system::error_code code;
                try {
                    if (*ended)
                        std::rethrow_exception(*ended);
                } catch (const om::error& failure) {
                    code = failure.code();
                }
                // co_spawn itself lets only `terminal` through.
                if (is_heeded && (all || type == asio::cancellation_type::terminal)) {
                    CHECK(code == asio::error::operation_aborted);
                    CHECK(code == om::condition::cancelled);
                    CHECK(files_of(at.base()) == before);
                    CHECK_FALSE(fs::exists(at.scratch / "out"));
                    CHECK(fs::is_empty(at.base() / "tmp"));
                } else {
                    CHECK_FALSE(code);
                }
                CHECK(mounts_below(at.scratch.path()).empty());
            }
        }
    }
    if (!with_mounts)
        OVERMOUNT_SKIP("may not mount");
}

TEST_CASE("an operation that is cancelled between any two of its steps ends in an error of this library, or is done")
{
    const place at;
    static_cast<void>(fill(at));
    const auto kept = at.scratch / "kept";
    copy_repository(at.base(), kept);
    for (const auto& [name, what, is_heeded] : all_operations(at, false)) {
        bool over = false;
        for (std::size_t handlers = 1; !over; ++handlers) {
            CAPTURE(name, handlers);
            fs::remove_all(at.scratch / "out");
            copy_repository(kept, at.base());
            subject one(at);
            std::optional<std::exception_ptr> ended;
            asio::cancellation_signal signal;
            asio::co_spawn(one.context, what(one),
                           asio::bind_cancellation_slot(signal.slot(), [&ended](std::exception_ptr why) { ended = why; }));
            for (std::size_t count = 0; count < handlers && !ended; ++count)
                one.context.run_one_for(std::chrono::seconds(60));
            over = ended.has_value();
            signal.emit(asio::cancellation_type::terminal);
            one.context.run_for(std::chrono::seconds(60));
            REQUIRE(ended);
            try {
                if (*ended)
                    std::rethrow_exception(*ended);
            } catch (const om::error& failure) {
                CHECK(failure.code() == asio::error::operation_aborted);
            } catch (const std::exception& failure) {
                FAIL_CHECK("another type, " << failure.what());
            }
        }
    }
}
