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

namespace overmount::inline OVERMOUNT_ABI::detail {

// Calls `beat` on a worker every second while some work goes on, so that others see that it does: also while the disk syncs, or
// bytes are waited for.
class claim_beat
{
public:
    OVERMOUNT_LAZY static asio::awaitable<void> during(worker_pool pool, asio::awaitable<void> work, std::function<void()> beat)
    {
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        auto mine = new_shared<claim_beat>();
        group->add(until_end(mine, std::move(work)));
        group->add(each_second(mine, std::move(pool), std::move(beat)));
        co_await task_group::join(std::move(group));
    }

private:
    using pointer = std::shared_ptr<claim_beat>; // of both children, which share a strand

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

    OVERMOUNT_LAZY static asio::awaitable<void> each_second(pointer self, worker_pool pool, std::function<void()> beat)
    {
        self->timer_ = std::make_unique<asio::steady_timer>(co_await asio::this_coro::executor);
        while (!self->over_) {
            self->timer_->expires_after(std::chrono::seconds(1));
            boost::system::error_code stopped;
            co_await self->timer_->async_wait(asio::redirect_error(asio::use_awaitable, stopped));
            if (stopped)
                break; // the work is over, or is going to be
            auto once = [beat](const stop_flag&) { beat(); };
            co_await run_on(pool, std::move(once));
        }
        self->timer_.reset();
    }

    bool over_ = false;
    std::unique_ptr<asio::steady_timer> timer_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
