#ifndef OVERMOUNT_DETAIL_RUN_ON_HPP
#define OVERMOUNT_DETAIL_RUN_ON_HPP

#include <overmount/detail/job.hpp>
#include <overmount/error.hpp>
#include <overmount/worker_pool.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>

#include <atomic>
#include <condition_variable>
#include <optional>
#include <type_traits>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Raised when nobody wants the result any more. Work polls it between chunks.
class stop_flag
{
public:
    [[nodiscard]] bool stopped() const noexcept { return raised_.load(std::memory_order_relaxed); }
    void throw_if_stopped() const
    {
        if (stopped())
            throw error(boost::asio::error::operation_aborted);
    }
    void raise() noexcept { raised_.store(true, std::memory_order_relaxed); }

private:
    std::atomic<bool> raised_ = false;
};

template <class Function>
class blocking_job final : public async_job
{
public:
    using result = std::invoke_result_t<Function&, const stop_flag&>;

    blocking_job(worker_pool pool, Function function) : pool_(std::move(pool)), function_(std::move(function)) {}

    [[nodiscard]] result take()
    {
        if constexpr (!std::is_void_v<result>)
            return std::move(*value_);
    }

private:
    void start() override
    {
        // The worker holds the job, the job must not hold the pool by then: the last handle never goes there.
        auto pool = std::move(*pool_);
        pool_.reset();
        pool.post([self = std::static_pointer_cast<blocking_job>(shared_from_this())] { self->run(); });
    }

    void run() noexcept
    {
        std::exception_ptr failure;
        {
            const std::lock_guard guard(running_);
            if (!function_)
                return; // abandoned
            try {
                stop_.throw_if_stopped();
                if constexpr (std::is_void_v<result>)
                    (*function_)(stop_);
                else
                    value_.emplace((*function_)(stop_));
            } catch (...) {
                failure = std::current_exception();
            }
            // What the function owned is gone before the coroutine goes on.
            function_.reset();
        }
        complete(std::move(failure));
    }

    void cancel() noexcept override { stop_.raise(); }

    void abandon() noexcept override
    {
        stop_.raise();
        const std::lock_guard guard(running_); // waits for a worker that is inside
        function_.reset();
    }

    struct nothing
    {
    };
    std::optional<worker_pool> pool_;
    std::mutex running_;
    std::optional<Function> function_;
    std::optional<std::conditional_t<std::is_void_v<result>, nothing, result>> value_;
    stop_flag stop_;
};

// Calls `function(const stop_flag&)` on a worker, and goes on with its result on the caller's executor. Any
// cancellation raises the flag; the operation completes when the function has returned, with its result where it
// returned one. A function that is still waiting for a worker is then not called.
template <class Function>
asio::awaitable<std::invoke_result_t<Function&, const stop_flag&>> run_on(worker_pool pool, Function function)
{
    auto job = std::make_shared<blocking_job<Function>>(std::move(pool), std::move(function));
    std::shared_ptr<async_job> base = job;
    co_await async_job::wait_for(std::move(base));
    co_return job->take();
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
