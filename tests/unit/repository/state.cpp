#include <overmount/own_policies.hpp>
#include <overmount/repository.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <sys/stat.h>

#include <fstream>
#include <future>

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace om = overmount;

using om::detail::run_then_clean;
using om::detail::stop_flag;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

asio::awaitable<void> nothing()
{
    co_return;
}

asio::awaitable<void> fail(std::string words)
{
    throw std::runtime_error(words);
    co_return;
}

asio::awaitable<void> wait_for_ever()
{
    asio::steady_timer timer(co_await asio::this_coro::executor, asio::steady_timer::time_point::max());
    co_await timer.async_wait(asio::use_awaitable);
}

// What has happened, in order.
using diary = std::vector<std::string>;

// How the operation ended, and what the caller's next operation did.
asio::awaitable<void> operate(asio::awaitable<void> work, std::function<void()> clean, diary* out, bool total = false)
{
    if (total)
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    auto job = [clean](const stop_flag&) { clean(); };
    try {
        co_await run_then_clean(om::worker_pool(1), std::move(work), std::move(job));
        out->push_back("done");
    } catch (const std::exception& failure) {
        out->push_back(failure.what());
    }
    try {
        co_await wait_for_ever();
    } catch (const boost::system::system_error& failure) {
        out->push_back(failure.code() == asio::error::operation_aborted ? "next one aborted" : failure.what());
    }
}

// Runs it; `emit`, for the cleanup, returns when the cancellation was emitted.
struct operation
{
    void run(asio::awaitable<void> work, std::function<void()> clean, bool total = false)
    {
        auto task = operate(std::move(work), std::move(clean), &happened, total);
        asio::co_spawn(context, std::move(task), asio::bind_cancellation_slot(signal.slot(), [this](std::exception_ptr) {
                           happened.push_back("over");
                       }));
        context.run_for(std::chrono::seconds(60));
    }
    void emit(asio::cancellation_type type)
    {
        std::promise<void> emitted;
        asio::post(context, [&] {
            signal.emit(type);
            emitted.set_value();
        });
        emitted.get_future().wait();
    }
    void emit_later(asio::cancellation_type type)
    {
        asio::post(context, [this, type] { asio::post(context, [this, type] { signal.emit(type); }); });
    }

    asio::io_context context;
    asio::cancellation_signal signal;
    diary happened;
};

om::repository open(const scratch_directory& scratch, om::durability sync)
{
    std::optional<om::repository> out;
    const auto options = om::repository_options().workers(1).sync(sync);
    const auto keep = [](auto task, auto* to) -> asio::awaitable<void> { to->emplace(co_await std::move(task)); };
    ::test::run_coroutine(keep(om::repository::open(scratch / "repository", options), &out));
    return *out;
}

template <class Repository>
asio::awaitable<void> create(Repository repository, fs::path tar)
{
    static_cast<void>(co_await repository.create_layer(std::move(tar)));
}

ino_t inode_of(const fs::path& path)
{
    struct stat status{};
    return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

// Calls a function between reading a diff's record and acting on it.
class watched_storage
{
public:
    using writer = om::on_disk_storage::writer;
    inline static std::function<void()> after_look;

    explicit watched_storage(om::storage_place place) : real_(place) {}
    [[nodiscard]] writer create(const om::write_context& context) { return real_.create(context); }
    [[nodiscard]] bool contains(const om::diff_id& id) const
    {
        const bool found = real_.contains(id);
        if (const auto happen = std::exchange(after_look, nullptr))
            happen();
        return found;
    }
    [[nodiscard]] om::diff_record record(const om::diff_id& id) const { return real_.record(id); }
    void erase(const om::diff_id& id) { real_.erase(id); }
    void make_durable(const om::diff_id& id, int staging, const std::function<void()>& poll) { real_.make_durable(id, staging, poll); }
    [[nodiscard]] static auto form() { return om::on_disk_storage::form(); }

private:
    om::on_disk_storage real_;
};

// The same, with layers that can be mounted.
class mountable_watched_storage : public om::on_disk_storage
{
public:
    using om::on_disk_storage::on_disk_storage;
    inline static std::function<void()> at_look;
    [[nodiscard]] bool contains(const om::diff_id& id) const
    {
        if (at_look)
            at_look();
        return om::on_disk_storage::contains(id);
    }
};

} // namespace

TEST_CASE("a cancellation during the cleanup takes effect after it")
{
    operation one;
    bool cleaned = false;
    one.run(nothing(), [&] {
        one.emit(asio::cancellation_type::terminal);
        cleaned = true;
    });
    CHECK(cleaned);
    CHECK(one.happened == diary{"done", "next one aborted", "over"});
}

TEST_CASE("a cancelled operation is cleaned up even if further cancellations come meanwhile")
{
    operation one;
    bool cleaned = false;
    one.emit_later(asio::cancellation_type::terminal);
    one.run(wait_for_ever(), [&] {
        one.emit(asio::cancellation_type::terminal);
        cleaned = true;
    });
    CHECK(cleaned);
    REQUIRE(one.happened.size() == 3);
    CHECK(one.happened[1] == "next one aborted");
}

TEST_CASE("a cleanup leaves the caller's cancellation filter unchanged")
{
    operation one;
    one.run(nothing(), [&] { one.emit_later(asio::cancellation_type::total); }, true);
    CHECK(one.happened == diary{"done", "next one aborted", "over"});
}

TEST_CASE("the first failure is thrown, also if it is the cleanup's")
{
    const auto clean = [] { throw std::runtime_error("cleanup"); };
    operation both, second;
    both.emit_later(asio::cancellation_type::none);
    const auto end_of = [](operation& one, asio::awaitable<void> work, std::function<void()> cleanup) {
        one.run(std::move(work), [&one, cleanup] {
            one.emit_later(asio::cancellation_type::terminal);
            cleanup();
        });
        REQUIRE(!one.happened.empty());
        return one.happened.front();
    };
    CHECK(end_of(both, fail("work"), clean) == "work");
    CHECK(end_of(second, nothing(), clean) == "cleanup");
}

TEST_CASE("a correction that was made of a diff while it was being replaced is forgotten")
{
    const scratch_directory scratch;
    const auto write = [&scratch](const char* name, const std::string& content) {
        std::ofstream(scratch / name, std::ios::binary) << content;
        return scratch / name;
    };
    const std::string tar = tar_writer().directory("d", {.mode = 0710}).finish();
    const auto lower = write("lower", tar), upper = write("upper", tar_writer().file("d/f", "text").finish());
    const auto before = open(scratch, om::durability::batch);
    const auto below = ::test::get(before.create_layer(lower));
    const auto top = ::test::get(before.create_layer(upper, below));
    const auto records = std::make_shared<om::detail::store>(scratch / "repository", "directory", false);
    om::detail::mount_table table(records);
    const om::detail::repository_state<om::on_disk_storage> state(records, om::repository_options(), om::worker_pool(1));
    REQUIRE(table.has_correction_note(top));
    std::ofstream(scratch / "repository/diffs/sha256" / om::digest::of(tar).hex() / "damaged").flush();

    using watched = om::basic_repository<mountable_watched_storage, om::no_mount>;
    const auto mine = ::test::get(watched::open(scratch / "repository", om::repository_options().workers(1)));
    bool made = false;
    mountable_watched_storage::at_look = [&] { // as a mount that accepts damaged layers does
        if (made || table.has_correction_note(top))
            return;
        table.ensure_correction(top, state.stack_of(top));
        made = table.has_correction_note(top);
    };
    CHECK(::test::get(mine.create_layer(lower)).id() == below.id());
    mountable_watched_storage::at_look = nullptr;
    CHECK(made);
    CHECK(state.storage.contains(om::diff_id(om::digest::of(tar))));
    CHECK_FALSE(table.has_correction_note(top));
    CHECK(table.ensure_correction(top, state.stack_of(top)));
    CHECK(fs::is_empty(scratch / "repository" / "tmp"));
}

TEST_CASE("a diff that another process has already replaced stays")
{
    const scratch_directory scratch;
    const auto content = tar_writer().directory("d").file("d/f", "text").finish();
    const auto tar = scratch / "tar";
    std::ofstream(tar, std::ios::binary) << content;
    const auto diff = scratch / "repository" / "diffs" / "sha256" / om::digest::of(content).hex();
    // A diff of an earlier boot that was never synced.
    ::test::run_coroutine(create(open(scratch, om::durability::none), tar));
    std::string record;
    std::getline(std::ifstream(diff / "diff.json"), record, '\0');
    const auto boot = om::detail::boot_id();
    REQUIRE(record.find(boot) != std::string::npos);
    record.replace(record.find(boot), boot.size(), "another boot");
    std::ofstream(diff / "diff.json") << record;
    const ino_t old = inode_of(diff / "rootfs" / "d");

    using watched = om::basic_repository<watched_storage, om::no_mount>;
    const auto repository = open(scratch, om::durability::batch);
    std::optional<watched> mine;
    const auto keep = [](auto task, auto* to) -> asio::awaitable<void> { to->emplace(co_await std::move(task)); };
    ::test::run_coroutine(keep(watched::open(scratch / "repository", om::repository_options().workers(1)), &mine));
    ino_t others = 0;
    watched_storage::after_look = [&] {
        ::test::run_coroutine(create(repository, tar));
        others = inode_of(diff / "rootfs" / "d");
    };
    ::test::run_coroutine(create(*mine, tar));
    CHECK(others != 0);
    CHECK(others != old);
    CHECK(inode_of(diff / "rootfs" / "d") == others);
    CHECK(fs::is_empty(scratch / "repository" / "tmp"));
}
