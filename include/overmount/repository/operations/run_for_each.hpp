#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_RUN_FOR_EACH_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_RUN_FOR_EACH_HPP

#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/task_group.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Calls `work(stop)` on a worker thread until it returns false. Other work may run between two calls.
OVERMOUNT_LAZY [[nodiscard]] inline asio::awaitable<void> run_repeatedly(worker_pool pool, std::function<bool(const stop_flag&)> work)
{
    for (bool more = true; more;) {
        auto once = work;
        more = co_await run_on(pool, std::move(once));
    }
}

// Calls `work(index, stop)` once for each index below `count`, on all worker threads. A worker lets other work run after `batch`
// calls.
OVERMOUNT_LAZY [[nodiscard]] inline asio::awaitable<void>
run_for_each(worker_pool pool, std::size_t count, std::size_t batch, std::function<void(std::size_t, const stop_flag&)> work)
{
    auto next = new_shared<std::atomic<std::size_t>>(std::size_t{0});
    auto one_batch = [next, count, batch, work](const stop_flag& stop) {
        for (std::size_t i = 0; i < batch; ++i) {
            stop.throw_if_stopped();
            const std::size_t index = next->fetch_add(1);
            if (index >= count)
                return false;
            work(index, stop);
        }
        return true;
    };
    auto group = new_shared<task_group>(co_await asio::this_coro::executor);
    for (unsigned i = 0; i < pool.workers(); ++i)
        group->add(run_repeatedly(pool, one_batch));
    co_await task_group::join(std::move(group));
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
