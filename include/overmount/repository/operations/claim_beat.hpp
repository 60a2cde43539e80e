#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CLAIM_BEAT_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CLAIM_BEAT_HPP

#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/task_group.hpp>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Calls `beat` every second while `work` runs, so that other importers see progress, even while the disk syncs or the work waits for
// bytes.
class claim_beat
{
public:
    // `beat` runs on a worker thread. If the pool has only one, it may be in a sync for longer than other importers wait: `beat`, which
    // only sets the times of a few files, then runs here. `also`, if there is one, always runs on a worker thread.
    OVERMOUNT_LAZY static asio::awaitable<void> during(worker_pool pool, asio::awaitable<void> work, std::function<void()> beat,
                                                       std::function<void()> also)
    {
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        auto mine = new_shared<claim_beat>();
        group->add(until_end(mine, std::move(work)));
        group->add(each_second(mine, std::move(pool), std::move(beat), std::move(also)));
        co_await task_group::join(std::move(group));
    }

private:
    using pointer = std::shared_ptr<claim_beat>; // shared by both child coroutines, which run on one strand

    OVERMOUNT_LAZY static asio::awaitable<void> until_end(pointer self, asio::awaitable<void> work)
    {
        std::exception_ptr failure;
        try {
            co_await std::move(work);
        } catch (...) {
            failure = std::current_exception();
        }
        self->over_ = true;
        if (self->timer_)
            self->timer_->cancel();
        if (failure)
            std::rethrow_exception(failure);
    }

    OVERMOUNT_LAZY static asio::awaitable<void> each_second(pointer self, worker_pool pool, std::function<void()> beat,
                                                            std::function<void()> also)
    {
        self->timer_ = std::make_unique<asio::steady_timer>(co_await asio::this_coro::executor);
        while (!self->over_) {
            self->timer_->expires_after(std::chrono::seconds(1));
            boost::system::error_code stopped;
            co_await self->timer_->async_wait(asio::redirect_error(asio::use_awaitable, stopped));
            if (stopped)
                break; // the work has ended or is being cancelled
            const bool here = pool.workers() == 1;
            if (here)
                beat();
            auto once = [here, beat, also](const stop_flag&) {
                if (!here)
                    beat();
                if (also)
                    also();
            };
            if (!here || also)
                co_await run_on(pool, std::move(once));
        }
        self->timer_.reset();
    }

    bool over_ = false;
    std::unique_ptr<asio::steady_timer> timer_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
