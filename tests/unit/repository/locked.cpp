#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/claim_beat.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"
#include "support/run_coroutine.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

namespace asio = boost::asio;
namespace om = overmount;
using om::errc;
using om::detail::claim_beat;
using om::detail::lock_kind;
using om::detail::run_locked;
using om::detail::stop_flag;
using om::detail::store;
using om::test::error_of;
using om::test::scratch_directory;
using clock_type = std::chrono::steady_clock;

namespace {

// The part of a repository's state that the lock needs.
struct state
{
    explicit state(const std::filesystem::path& base) : records(std::make_shared<store>(base, "directory", false)) {}
    std::shared_ptr<store> records;
    om::worker_pool pool{1};
    clock_type::duration lock_limit = std::chrono::seconds(60);
};

struct opened
{
    scratch_directory scratch;
    std::shared_ptr<state> mine = std::make_shared<state>(scratch / "repository");
};

asio::awaitable<void> touch(std::shared_ptr<state> owner, lock_kind kind, std::atomic<int>* ran)
{
    auto work = [ran](const stop_flag&) { ++*ran; };
    co_await run_locked(std::move(owner), kind, std::move(work));
}

bool is_free(const store& records) { return records.lock(lock_kind::exclusive).try_take(); }

} // namespace

TEST_CASE("work under the lock holds the requested lock, returns its result, and releases the lock")
{
    const opened one;
    auto look = [records = one.mine->records](const stop_flag&) { return is_free(*records) ? 0 : 7; };
    CHECK(::test::get(run_locked(one.mine, lock_kind::shared, std::move(look))) == 7);
    CHECK(is_free(*one.mine->records));
    auto fail = [](const stop_flag&) { throw om::error(errc::image_not_found); };
    CHECK(error_of([&] { ::test::get(run_locked(one.mine, lock_kind::roots, std::move(fail))); }).code() == errc::image_not_found);
    CHECK(is_free(*one.mine->records));
}

TEST_CASE("waiting for a lock that is never released ends in an error after the time limit")
{
    const opened one;
    auto holder = one.mine->records->lock(lock_kind::exclusive);
    REQUIRE(holder.try_take());
    one.mine->lock_limit = std::chrono::milliseconds(50);
    std::atomic<int> ran = 0;
    for (const lock_kind kind : {lock_kind::shared, lock_kind::roots, lock_kind::exclusive}) {
        const auto start = clock_type::now();
        const auto failure = error_of([&] { ::test::get(touch(one.mine, kind, &ran)); });
        CHECK(failure.code() == errc::repository_busy);
        CHECK(failure.subject() == one.mine->records->base().string());
        CHECK(clock_type::now() - start >= std::chrono::milliseconds(50));
    }
    CHECK(ran == 0);
    holder.release();
    CHECK(is_free(*one.mine->records)); // not even the turnstile is held
    ::test::get(touch(one.mine, lock_kind::exclusive, &ran));
    CHECK(ran == 1);
}

TEST_CASE("waiting for the lock blocks no worker, and ends when the lock is free")
{
    const opened one;
    auto holder = std::make_shared<om::detail::repository_lock>(one.mine->records->lock(lock_kind::exclusive));
    REQUIRE(holder->try_take());
    asio::io_context context;
    std::atomic<int> ran = 0;
    asio::co_spawn(context, touch(one.mine, lock_kind::roots, &ran), [](std::exception_ptr) {});
    // The only worker does something else, and releases the lock.
    auto release = [](om::worker_pool pool, auto held) -> asio::awaitable<void> {
        auto work = [held](const stop_flag&) { held->release(); };
        co_await om::detail::run_on(pool, std::move(work));
    };
    asio::co_spawn(context, release(one.mine->pool, holder), [](std::exception_ptr) {});
    context.run_for(std::chrono::seconds(60));
    CHECK(ran == 1);
}

TEST_CASE("waiting for the lock can be cancelled, and then leaves nothing locked")
{
    const opened one;
    auto holder = one.mine->records->lock(lock_kind::shared);
    REQUIRE(holder.try_take());
    asio::io_context context;
    asio::cancellation_signal signal;
    std::atomic<int> ran = 0;
    std::exception_ptr ended;
    asio::co_spawn(context, touch(one.mine, lock_kind::exclusive, &ran),
                   asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr failure) { ended = failure; }));
    // It waits once it is in the turnstile.
    while (one.mine->records->lock(lock_kind::shared).try_take())
        context.run_one_for(std::chrono::seconds(1));
    asio::post(context, [&] { signal.emit(asio::cancellation_type::terminal); });
    context.run_for(std::chrono::seconds(60));
    REQUIRE(ended);
    CHECK(error_of([&] { std::rethrow_exception(ended); }).code() == asio::error::operation_aborted);
    CHECK(ran == 0);
    CHECK(one.mine->records->lock(lock_kind::shared).try_take());
    holder.release();
    CHECK(is_free(*one.mine->records));
}

TEST_CASE("an operation that changes roots first applies what a dead importer has committed")
{
    const opened one;
    om::detail::import_record record;
    record.images.push_back({om::digest::of("image"), "config", false});
    const store& records = *one.mine->records;
    om::detail::put_record(records.staging.fd(), records.imports.directory(), "dead.json", record.text(), om::durability::none,
                           om::detail::existing::keep);
    std::atomic<int> ran = 0;
    ::test::get(touch(one.mine, lock_kind::shared, &ran));
    CHECK(records.imports.pending().size() == 1);
    CHECK(records.image_files.list().empty());
    ::test::get(touch(one.mine, lock_kind::roots, &ran));
    CHECK(records.imports.pending().empty());
    CHECK(records.image_files.list().size() == 1);
}

TEST_CASE("a claim beats while the work runs, and the work does not wait for the next beat")
{
    const opened one;
    const om::diff_id diff(om::digest::of("a"));
    const auto claim = one.mine->records->claims.try_take(diff);
    REQUIRE(claim);
    std::atomic<int> beats = 0;
    // Work that ends after the first beat, like a long sync of the disk.
    auto work = [](std::atomic<int>* count) -> asio::awaitable<void> {
        for (int i = 0; i < 1000 && *count == 0; ++i)
            co_await om::detail::pause(std::chrono::milliseconds(10));
    };
    const auto before = one.mine->records->claims.last_beat(diff);
    auto beat = [&] {
        claim->beat();
        ++beats;
    };
    const std::function<void()> nothing;
    const auto start = clock_type::now();
    ::test::get(claim_beat::during(one.mine->pool, work(&beats), beat, nothing));
    CHECK(beats == 1);
    CHECK(one.mine->records->claims.last_beat(diff) > before);
    CHECK(clock_type::now() - start < std::chrono::milliseconds(1900));
    auto fails = []() -> asio::awaitable<void> {
        co_await om::detail::pause(std::chrono::milliseconds(1));
        throw om::error(errc::image_not_found);
    };
    CHECK(error_of([&] { ::test::get(claim_beat::during(one.mine->pool, fails(), beat, nothing)); }).code() == errc::image_not_found);
    CHECK(beats == 1);
}
