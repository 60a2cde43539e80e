#include "support/catch.hpp"
#include "support/run_coroutine.hpp"

#include <overmount/runtime/ring.hpp>
#include <overmount/runtime/step.hpp>
#include <overmount/runtime/task_group.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/thread_pool.hpp>

#include <thread>

namespace om = overmount;
namespace asio = boost::asio;
using namespace om::detail;

namespace {

struct producer final : step
{
    std::shared_ptr<ring> out;
    step* next = nullptr;
    std::size_t left = 0;
    std::uint64_t sum = 0;
    unsigned value = 1;
    std::size_t fail_at = 0;
    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        const auto room = out->back();
        if (room.empty())
            return step_state::wait;
        const auto size = std::min(left, room.size());
        for (auto& byte : room.first(size)) {
            byte = static_cast<std::byte>(value = value * 1664525u + 1013904223u);
            sum = sum * 31 + std::to_integer<unsigned>(byte);
        }
        left -= size;
        if (fail_at != 0 && left <= fail_at)
            throw om::error(om::errc::corrupt_stream);
        if (size != 0)
            out->push(size);
        if (left == 0)
            out->close();
        next->notify();
        return left == 0 ? step_state::done : step_state::again;
    }
};

struct consumer final : step
{
    std::shared_ptr<ring> in;
    step* previous = nullptr;
    std::uint64_t sum = 0;
    std::size_t got = 0;
    std::atomic<int> inside = 0;
    step_state resume(const stop_flag& stop) override
    {
        if (++inside != 1)
            throw std::logic_error("two workers in one step");
        const struct leave
        {
            std::atomic<int>& n;
            ~leave() { --n; }
        } leaves{inside};
        stop.throw_if_stopped();
        const auto bytes = in->front();
        if (bytes.empty())
            return in->finished() ? step_state::done : step_state::wait;
        for (const auto byte : bytes)
            sum = sum * 31 + std::to_integer<unsigned>(byte);
        got += bytes.size();
        in->pop();
        previous->notify();
        return step_state::again;
    }
};

struct pair_of
{
    std::shared_ptr<producer> from = std::make_shared<producer>();
    std::shared_ptr<consumer> to = std::make_shared<consumer>();
    explicit pair_of(std::size_t bytes, std::size_t buffer = 256 * 1024)
    {
        from->out = to->in = std::make_shared<ring>(1, 4, buffer);
        from->next = to.get();
        to->previous = from.get();
        from->left = bytes;
    }
};

struct sleeper final : step
{
    std::atomic<int>* runs;
    explicit sleeper(std::atomic<int>* count) : runs(count) {}
    step_state resume(const stop_flag&) override
    {
        ++*runs;
        return step_state::wait;
    }
};

asio::awaitable<void> sleep_on(om::worker_pool pool, std::atomic<int>* runs)
{
    auto group = std::make_shared<step_group>();
    group->add(std::make_shared<sleeper>(runs));
    co_await run_steps(pool, std::move(group));
}

} // namespace

TEST_CASE("sixteen pipelines transfer their bytes on one or more workers")
{
    const unsigned workers = GENERATE(1u, 3u);
    std::vector<pair_of> pairs;
    auto group = std::make_shared<step_group>();
    for (int i = 0; i < 16; ++i) {
        const auto& pair = pairs.emplace_back(std::size_t{8} << 20);
        group->add(pair.to);
        group->add(pair.from);
    }
    test::run_coroutine(run_steps(om::worker_pool(workers), group));
    for (const auto& pair : pairs) {
        REQUIRE(pair.to->got == std::size_t{8} << 20);
        REQUIRE(pair.to->sum == pair.from->sum);
    }
}

TEST_CASE("run_here runs steps on the calling thread until they are done or one fails")
{
    const stop_flag go_on;
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{20000}}) {
        pair_of pair(bytes, 7);
        step_group group;
        group.add(pair.to);
        group.add(pair.from);
        group.run_here(go_on);
        CHECK(pair.to->got == bytes);
        CHECK(pair.to->sum == pair.from->sum);
        CHECK(pair.to.use_count() == 1); // the group has released its steps
    }
    pair_of broken(20000, 7);
    broken.from->fail_at = 10000;
    step_group group;
    group.add(broken.from);
    group.add(broken.to);
    CHECK_THROWS_AS(group.run_here(go_on), om::error);
    CHECK(broken.to->got < 20000);
    stop_flag stop;
    stop.raise();
    pair_of cancelled(20000, 7);
    step_group other;
    other.add(cancelled.from);
    other.add(cancelled.to);
    CHECK_THROWS_AS(other.run_here(stop), om::error);
    CHECK(cancelled.to->got == 0);
}

TEST_CASE("no notification is lost between steps with small buffers")
{
    for (int round = 0; round < 20; ++round) {
        pair_of pair(20000, 7);
        auto group = std::make_shared<step_group>();
        group->add(pair.from);
        group->add(pair.to);
        test::run_coroutine(run_steps(om::worker_pool(2), group));
        REQUIRE(pair.to->got == 20000);
        REQUIRE(pair.to->sum == pair.from->sum);
    }
}

TEST_CASE("an error of one step stops the others, and the steps are destroyed before the coroutine resumes")
{
    om::worker_pool pool(2);
    std::atomic<int> runs = 0;
    std::weak_ptr<step> remains;
    auto task = [&]() -> asio::awaitable<void> {
        auto group = std::make_shared<step_group>();
        {
            pair_of pair(1 << 20);
            pair.from->fail_at = 1 << 19;
            remains = pair.to;
            group->add(pair.from);
            group->add(pair.to);
            group->add(std::make_shared<sleeper>(&runs));
        }
        std::exception_ptr failure;
        try {
            co_await run_steps(pool, group);
        } catch (...) {
            failure = std::current_exception();
        }
        if (!remains.expired())
            throw std::logic_error("the steps are still there");
        std::rethrow_exception(failure);
    };
    try {
        test::run_coroutine(task());
        FAIL("no error");
    } catch (const om::error& e) {
        REQUIRE(e.code() == om::errc::corrupt_stream);
    }
    REQUIRE(runs == 2); // once at the start, once when stopped
}

TEST_CASE("a cancellation that passes the caller's filter stops the steps")
{
    const auto type = GENERATE(asio::cancellation_type::terminal, asio::cancellation_type::partial,
                               asio::cancellation_type::total);
    om::worker_pool pool(1);
    asio::io_context context;
    asio::cancellation_signal signal;
    std::atomic<int> runs = 0;
    std::exception_ptr end;
    auto task = [&]() -> asio::awaitable<void> {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        co_await sleep_on(pool, &runs);
    };
    asio::co_spawn(context, task(),
                   asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { end = e; }));
    while (runs == 0)
        context.poll();
    signal.emit(type);
    context.run_for(std::chrono::seconds(30));
    REQUIRE(end);
    REQUIRE_THROWS_AS(std::rethrow_exception(end), om::error);
    REQUIRE(runs == 2);
}

TEST_CASE("a context may be destroyed while steps wait or run")
{
    for (int round = 0; round < 50; ++round) {
        std::atomic<int> runs = 0;
        asio::io_context context;
        asio::co_spawn(context, sleep_on(om::worker_pool::of(context), &runs), asio::detached);
        context.poll();
    }
    std::atomic<int> runs = 0;
    {
        asio::thread_pool context(2);
        asio::co_spawn(context, sleep_on(om::worker_pool::of(context), &runs), asio::detached);
        while (runs == 0)
            std::this_thread::yield();
    }
    REQUIRE(runs == 2);
}

TEST_CASE("another thread can notify a step")
{
    om::worker_pool pool(1);
    auto box = std::make_shared<ring>(1, 2, 10);
    pair_of pair(0);
    pair.to->in = box;
    auto task = [&]() -> asio::awaitable<void> {
        auto group = std::make_shared<step_group>();
        group->add(pair.to);
        auto all = std::make_shared<task_group>(co_await asio::this_coro::executor);
        all->add(run_steps(pool, group));
        all->add([](std::shared_ptr<ring> out, step* to) -> asio::awaitable<void> {
            for (int i = 0; i < 200;) {
                if (out->back().empty()) {
                    co_await asio::post(asio::use_awaitable);
                    continue;
                }
                out->push(10);
                to->notify();
                ++i;
            }
            out->close();
            to->notify();
        }(box, pair.to.get()));
        co_await task_group::join(all);
    };
    test::run_coroutine(task());
    REQUIRE(pair.to->got == 2000);
}
