// Each operation is cancelled, and its context is destroyed, after each number of handlers that have run: what is left
// is as before, or complete, and no descriptor stays open.
#include <overmount/overmount.hpp>
#include <overmount/repository/records/store.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/may_mount.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/scripted_stream.hpp"
#include "support/skip.hpp"
#include "support/tree.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

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

std::size_t open_descriptors()
{
    return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

// All of a repository but directories, which may come first; without the times of whiteouts, tags and corrections.
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

// Sources and results of the operations.
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

// The operation on a context of its own, up to `handlers`; then `stop`, which may run the rest.
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
        } catch (const boost::system::system_error& ended) {
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

// After the operation, whichever way it ended, and the repository as it has to be then.
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
    // A diff is there as a whole.
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

TEST_CASE("an import or a layer that is cancelled after any number of handlers leaves nothing, or is complete")
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

TEST_CASE("an import or a layer whose context goes after any number of handlers leaves only what the next open removes")
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
            overmount::detail::store(at.base(), overmount::on_disk_storage::form(), false).sweep(); // as the next that writes
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

TEST_CASE("a mount or unmount that is cancelled, or whose context goes, leaves a mount that is owned or none")
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
            // What was written is kept, where there was anybody who could write.
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
