#include <overmount/repository/operations/claim_beat.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

namespace asio = boost::asio;
namespace om = overmount;

namespace {

struct beats
{
    std::atomic<int> count = 0;
    std::thread::id thread;
};

asio::awaitable<void> wait_for(const beats* seen)
{
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (seen->count == 0) {
        timer.expires_after(std::chrono::milliseconds(1));
        co_await timer.async_wait(asio::use_awaitable);
    }
}

} // namespace

TEST_CASE("a claim beats even while the only worker thread is in a sync, and on a worker thread if there are several")
{
    const unsigned workers = GENERATE(1u, 2u);
    om::worker_pool pool(workers);
    std::atomic<bool> synced = false;
    pool.post([&synced] { synced.wait(false); });
    beats seen;
    const std::function<void()> beat = [&seen] {
        seen.thread = std::this_thread::get_id();
        ++seen.count;
    };
    const std::function<void()> nothing;
    ::test::run_coroutine(om::detail::claim_beat::during(pool, wait_for(&seen), beat, nothing));
    CHECK((seen.thread == std::this_thread::get_id()) == (workers == 1));
    synced = true;
    synced.notify_all();
}
