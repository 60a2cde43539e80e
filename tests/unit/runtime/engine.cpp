#include "support/catch.hpp"
#include "support/run_coroutine.hpp"

#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/semaphore.hpp>
#include <overmount/runtime/task_group.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include <future>
#include <memory>
#include <optional>
#include <thread>

namespace asio = boost::asio;
namespace om = overmount;
using om::detail::stop_flag;

namespace {

void wait_until(const std::atomic<bool>& flag)
{
    while (!flag)
        std::this_thread::yield();
}

bool aborted(const std::exception_ptr& failure)
{
    try {
        std::rethrow_exception(failure);
    } catch (const boost::system::system_error& e) {
        return e.code() == asio::error::operation_aborted;
    }
}

// Shared with the coroutines of a test until they are destroyed.
class witness
{
public:
    [[nodiscard]] long use_count() const noexcept { return shared_.use_count(); }

private:
    std::shared_ptr<int> shared_ = std::make_shared<int>();
};

// Checks that the workers of the pool are free.
void still_works(const om::worker_pool& pool)
{
    auto work = [](const stop_flag&) { return 42; };
    REQUIRE(test::get(om::detail::run_on(pool, std::move(work))) == 42);
}

asio::awaitable<void> blocks_until_stopped(om::worker_pool pool, std::atomic<bool>* inside, witness = {})
{
    auto work = [inside](const stop_flag& stop) {
        *inside = true;
        while (!stop.stopped())
            std::this_thread::yield();
        stop.throw_if_stopped();
    };
    co_await om::detail::run_on(pool, std::move(work));
}

} // namespace

TEST_CASE("run_on returns the function's result on the caller's executor")
{
    test::run_coroutine([]() -> asio::awaitable<void> {
        const auto here = std::this_thread::get_id();
        auto work = [](const stop_flag&) { return std::this_thread::get_id(); };
        const auto there = co_await om::detail::run_on(om::worker_pool(1), std::move(work));
        REQUIRE(there != here);
        REQUIRE(std::this_thread::get_id() == here);
    }());
}

TEST_CASE("run_on rethrows the function's exception")
{
    auto task = []() -> asio::awaitable<void> {
        auto work = [](const stop_flag&) { throw om::error(om::errc::invalid_digest); };
        co_await om::detail::run_on(om::worker_pool(1), std::move(work));
    };
    REQUIRE_THROWS_AS(test::run_coroutine(task()), om::error);
}

TEST_CASE("a function that waits for a worker is not called after a cancellation")
{
    om::worker_pool pool(1);
    asio::io_context context;
    std::atomic<bool> inside = false, second = false;
    asio::cancellation_signal first_signal, second_signal;
    std::exception_ptr first_end, second_end;
    asio::co_spawn(
        context, blocks_until_stopped(pool, &inside),
        asio::bind_cancellation_slot(first_signal.slot(), [&](std::exception_ptr e) { first_end = e; }));
    asio::co_spawn(
        context, blocks_until_stopped(pool, &second),
        asio::bind_cancellation_slot(second_signal.slot(), [&](std::exception_ptr e) { second_end = e; }));
    context.poll();
    wait_until(inside);
    second_signal.emit(asio::cancellation_type::terminal);
    first_signal.emit(asio::cancellation_type::terminal);
    context.run_for(std::chrono::seconds(60));
    REQUIRE(aborted(first_end));
    REQUIRE(aborted(second_end));
    REQUIRE_FALSE(second);
}

TEST_CASE("a context may be destroyed while workers run")
{
    om::worker_pool pool(1);
    std::atomic<bool> inside = false;
    SECTION("an io_context")
    {
        asio::io_context context;
        asio::co_spawn(context, blocks_until_stopped(pool, &inside), asio::detached);
        context.poll();
        wait_until(inside);
    }
    SECTION("a thread_pool")
    {
        asio::thread_pool context(1);
        asio::co_spawn(context, blocks_until_stopped(pool, &inside), asio::detached);
        wait_until(inside);
    }
    SECTION("with a pool of its own")
    {
        asio::io_context context;
        asio::co_spawn(context, blocks_until_stopped(om::worker_pool::of(context), &inside), asio::detached);
        context.poll();
        wait_until(inside);
    }
    REQUIRE(inside);
}

TEST_CASE("a context may be destroyed after any number of handlers")
{
    const auto program = [](om::worker_pool pool) -> asio::awaitable<void> {
        om::detail::semaphore permits(1);
        auto group = std::make_shared<om::detail::task_group>(co_await asio::this_coro::executor);
        for (int i = 0; i < 3; ++i) {
            group->add([](om::worker_pool workers, om::detail::semaphore* slots) -> asio::awaitable<void> {
                const auto permit = co_await slots->acquire();
                auto work = [](const stop_flag&) {};
                co_await om::detail::run_on(workers, std::move(work));
            }(pool, &permits));
        }
        co_await om::detail::task_group::join(group);
    };
    bool finished = false;
    for (int steps = 0; !finished; ++steps) {
        REQUIRE(steps < 1000);
        om::worker_pool pool(1);
        asio::io_context context;
        asio::co_spawn(context, program(pool), [&](std::exception_ptr) { finished = true; });
        for (int i = 0; i < steps && !finished; ++i)
            context.run_one_for(std::chrono::seconds(60));
    }
}

TEST_CASE("a task group cancels the others when one fails, and waits for them")
{
    std::atomic<bool> inside = false;
    om::worker_pool pool(2);
    auto task = [&]() -> asio::awaitable<void> {
        auto group = std::make_shared<om::detail::task_group>(co_await asio::this_coro::executor);
        group->add(blocks_until_stopped(pool, &inside));
        group->add([](om::worker_pool workers, std::atomic<bool>* other) -> asio::awaitable<void> {
            auto work = [other](const stop_flag&) {
                wait_until(*other);
                throw om::error(om::errc::invalid_whiteout);
            };
            co_await om::detail::run_on(workers, std::move(work));
        }(pool, &inside));
        co_await om::detail::task_group::join(group);
    };
    try {
        test::run_coroutine(task());
        FAIL("no error");
    } catch (const om::error& e) {
        REQUIRE(e.code() == om::errc::invalid_whiteout);
    }
}

TEST_CASE("cancelling the joiner of a task group cancels its children")
{
    om::worker_pool pool(1);
    asio::io_context context;
    asio::cancellation_signal signal;
    std::atomic<bool> inside = false;
    std::exception_ptr ended;
    asio::co_spawn(
        context,
        [](om::worker_pool workers, std::atomic<bool>* flag) -> asio::awaitable<void> {
            auto group = std::make_shared<om::detail::task_group>(co_await asio::this_coro::executor);
            group->add(blocks_until_stopped(workers, flag));
            co_await om::detail::task_group::join(group);
        }(pool, &inside),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { ended = e; }));
    while (!inside)
        context.poll();
    signal.emit(asio::cancellation_type::terminal);
    context.run_for(std::chrono::seconds(60));
    REQUIRE(aborted(ended));
}

TEST_CASE("sixteen tasks complete with one worker and two permits")
{
    std::atomic<int> done = 0;
    std::atomic<int> most = 0, now = 0;
    test::run_coroutine(
        [](std::atomic<int>* count, std::atomic<int>* peak, std::atomic<int>* at) -> asio::awaitable<void> {
            om::worker_pool pool(1);
            om::detail::semaphore permits(2);
            auto group = std::make_shared<om::detail::task_group>(co_await asio::this_coro::executor);
            for (int i = 0; i < 16; ++i) {
                group->add([](om::worker_pool workers, om::detail::semaphore* slots, std::atomic<int>* c,
                              std::atomic<int>* p, std::atomic<int>* a) -> asio::awaitable<void> {
                    const auto permit = co_await slots->acquire();
                    *p = std::max(p->load(), ++*a);
                    auto work = [c](const stop_flag&) { ++*c; };
                    co_await om::detail::run_on(workers, std::move(work));
                    --*a;
                }(pool, &permits, count, peak, at));
            }
            co_await om::detail::task_group::join(group);
        }(&done, &most, &now));
    REQUIRE(done == 16);
    REQUIRE(most == 2);
}

TEST_CASE("a context may be destroyed while workers complete, whatever the order of its services")
{
    om::worker_pool pool(2);
    for (int i = 0; i < 2000; ++i) {
        std::atomic<int> ended = 0;
        const witness alive;
        {
            asio::io_context context;
            for (int k = 0; k < 2; ++k)
                asio::co_spawn(
                    context,
                    [](om::worker_pool p, std::atomic<int>* n, witness) -> asio::awaitable<void> {
                        auto work = [n](const stop_flag&) { ++*n; };
                        co_await om::detail::run_on(p, std::move(work));
                    }(pool, &ended, alive),
                    asio::detached);
            context.poll();
            while (ended == 0)
                std::this_thread::yield();
        }
        REQUIRE(alive.use_count() == 1);
    }
    still_works(pool);
}

TEST_CASE("the result of a finished function is returned although the caller was cancelled")
{
    asio::io_context context;
    asio::cancellation_signal signal;
    std::atomic<bool> inside = false;
    int result = 0;
    asio::co_spawn(
        context,
        [](std::atomic<bool>* in, int* out) -> asio::awaitable<void> {
            auto work = [in](const stop_flag& stop) {
                *in = true;
                while (!stop.stopped())
                    std::this_thread::yield();
                return 42;
            };
            *out = co_await om::detail::run_on(om::worker_pool(1), std::move(work));
        }(&inside, &result),
        asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    while (!inside)
        context.poll();
    signal.emit(asio::cancellation_type::terminal);
    context.run_for(std::chrono::seconds(30));
    REQUIRE(result == 42);
}

TEST_CASE("a semaphore grants permits in order, and a cancelled waiter leaves the queue")
{
    asio::io_context context;
    om::detail::semaphore permits(1);
    std::vector<int> order;
    std::vector<asio::cancellation_signal> signals(5);
    for (int i = 0; i < 5; ++i)
        asio::co_spawn(
            context,
            [](om::detail::semaphore* from, std::vector<int>* seen, int me) -> asio::awaitable<void> {
                const auto permit = co_await from->acquire();
                seen->push_back(me);
                co_await asio::post(asio::use_awaitable);
            }(&permits, &order, i),
            asio::bind_cancellation_slot(signals[static_cast<std::size_t>(i)].slot(),
                                         [](std::exception_ptr) {}));
    // Let all of them wait first: with Boost 1.83, run() throws if a coroutine is cancelled before it starts.
    for (int i = 0; i < 5; ++i)
        context.poll_one();
    signals[2].emit(asio::cancellation_type::terminal);
    context.run_for(std::chrono::seconds(30));
    REQUIRE(order == std::vector<int>{0, 1, 3, 4});
}

TEST_CASE("a context may be destroyed while it runs a group without another owner")
{
    om::worker_pool pool(1);
    for (int i = 0; i < 20; ++i) {
        std::atomic<bool> inside = false;
        const witness alive;
        {
            asio::io_context context;
            asio::co_spawn(
                context,
                [](om::worker_pool workers, std::atomic<bool>* flag, witness all) -> asio::awaitable<void> {
                    auto group = std::make_shared<om::detail::task_group>(co_await asio::this_coro::executor);
                    for (int child = 0; child < 3; ++child)
                        group->add(blocks_until_stopped(workers, flag, all));
                    co_await om::detail::task_group::join(std::move(group));
                }(pool, &inside, alive),
                asio::detached);
            context.poll();
            wait_until(inside);
        }
        REQUIRE(alive.use_count() == 1);
    }
    still_works(pool);
}

TEST_CASE("a context may be destroyed if its first job is older than its pool")
{
    std::atomic<bool> inside = false;
    const witness alive;
    {
        asio::io_context context;
        asio::co_spawn(
            context,
            [](asio::io_context* here, std::atomic<bool>* flag, witness all) -> asio::awaitable<void> {
                om::detail::semaphore permits(1);
                const auto permit = co_await permits.acquire(); // registers with the context
                co_await blocks_until_stopped(om::worker_pool::of(*here), flag, all);
            }(&context, &inside, alive),
            asio::detached);
        while (!inside)
            context.poll();
    }
    REQUIRE(alive.use_count() == 1);
}

TEST_CASE("an operation that owns the last handle of its pool can be cancelled")
{
    std::atomic<bool> inside = false;
    asio::io_context context;
    asio::cancellation_signal signal;
    std::exception_ptr end;
    asio::co_spawn(context, blocks_until_stopped(om::worker_pool(1), &inside),
                   asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { end = e; }));
    while (!inside)
        context.poll();
    signal.emit(asio::cancellation_type::terminal);
    context.run_for(std::chrono::seconds(60));
    REQUIRE(aborted(end));
}

TEST_CASE("an unused result may hold the last handle of its pool")
{
    for (int i = 0; i < 20; ++i) {
        std::atomic<bool> inside = false;
        auto last = std::make_shared<om::worker_pool>(1);
        const std::weak_ptr<om::worker_pool> watched = last;
        auto context = std::make_optional<asio::io_context>();
        asio::co_spawn(
            *context,
            [](std::shared_ptr<om::worker_pool> own, std::atomic<bool>* flag) -> asio::awaitable<void> {
                auto work = [own, flag](const stop_flag& stop) {
                    *flag = true;
                    while (!stop.stopped())
                        std::this_thread::yield();
                    return own;
                };
                om::worker_pool pool = *own;
                own.reset();
                co_await om::detail::run_on(std::move(pool), std::move(work));
            }(std::move(last), &inside),
            asio::detached);
        while (!inside)
            context->poll();
        REQUIRE_FALSE(watched.expired());
        context.reset();
        REQUIRE(watched.expired());
    }
}

TEST_CASE("cancelling a function that waits for a busy worker ends it at once")
{
    om::worker_pool pool(1);
    asio::io_context context;
    std::atomic<bool> inside = false, second = false;
    asio::cancellation_signal first_signal, second_signal;
    std::exception_ptr second_end;
    asio::co_spawn(context, blocks_until_stopped(pool, &inside),
                   asio::bind_cancellation_slot(first_signal.slot(), [](std::exception_ptr) {}));
    asio::co_spawn(
        context, blocks_until_stopped(pool, &second),
        asio::bind_cancellation_slot(second_signal.slot(), [&](std::exception_ptr e) { second_end = e; }));
    context.poll();
    wait_until(inside);
    second_signal.emit(asio::cancellation_type::terminal);
    context.poll(); // the worker is still busy
    REQUIRE(second_end);
    REQUIRE(aborted(second_end));
    first_signal.emit(asio::cancellation_type::terminal);
    context.run_for(std::chrono::seconds(60));
    REQUIRE_FALSE(second);
}
