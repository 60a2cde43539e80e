#ifndef OVERMOUNT_RUNTIME_RUN_ON_HPP
#define OVERMOUNT_RUNTIME_RUN_ON_HPP

#include <overmount/core/error.hpp>
#include <overmount/runtime/job.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>

#include <atomic>
#include <functional>
#include <optional>
#include <type_traits>

namespace overmount::OVERMOUNT_ABI::detail {

// Tells work on a worker thread to stop because its result is no longer wanted. Work polls it between chunks.
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

// How a function on a worker reacts to a cancellation.
enum class when_cancelled
{
    stop,
    go_on, // for cleanups: the function still runs to its end; the caller's next co_await reports the cancellation
};

// Type-erased, like the coroutine that waits for it: one instantiation per result type, not per callable.
template <class Result>
class blocking_job final : public async_job
{
public:
    using function = std::function<Result(const stop_flag&)>;

    blocking_job(const worker_pool& pool, function called, when_cancelled what)
        : pool_(&pool), when_cancelled_(what), function_(std::move(called))
    {}

    [[nodiscard]] Result take()
    {
        if constexpr (!std::is_void_v<Result>)
            return std::move(*value_);
    }
    // Destroys the result. The coroutine calls it however it ends, so that a worker never destroys a result.
    void drop() noexcept { value_.reset(); }

private:
    void start() override
    {
        pool_->post([self = std::static_pointer_cast<blocking_job>(shared_from_this())] { self->run(); });
    }

    void run() noexcept
    {
        if (claimed_.exchange(true))
            return; // cancelled
        std::exception_ptr failure;
        try {
            if constexpr (std::is_void_v<Result>)
                function_(stop_);
            else
                value_.emplace(function_(stop_));
        } catch (...) {
            failure = std::current_exception();
        }
        // Release what the function owns before the coroutine resumes.
        function_ = nullptr;
        complete(std::move(failure));
    }

    void cancel() noexcept override
    {
        if (when_cancelled_ == when_cancelled::stop)
            abandon();
    }
    void abandon() noexcept override
    {
        stop_.raise();
        if (claimed_.exchange(true))
            return; // the worker that runs the function completes the job, or has completed it
        function_ = nullptr;
        complete(std::make_exception_ptr(error(boost::asio::error::operation_aborted)));
    }

    struct nothing
    {
    };
    const worker_pool* pool_; // owned by the coroutine, so that a worker never holds the last handle; only start() uses it
    when_cancelled when_cancelled_;
    std::atomic<bool> claimed_ = false; // set by the worker that calls the function, or by an earlier cancellation
    function function_;
    std::optional<std::conditional_t<std::is_void_v<Result>, nothing, Result>> value_;
    stop_flag stop_;
};

template <class Result>
asio::awaitable<Result> run_job(worker_pool pool, std::function<Result(const stop_flag&)> function, when_cancelled what)
{
    struct dropper
    {
        explicit dropper(std::shared_ptr<blocking_job<Result>> owned) : job(std::move(owned)) {}
        dropper(const dropper&) = delete;
        dropper& operator=(const dropper&) = delete;
        ~dropper() { job->drop(); }
        std::shared_ptr<blocking_job<Result>> job;
    };
    const auto state = co_await asio::this_coro::cancellation_state;
    if (what == when_cancelled::stop && // needed if throw_if_cancelled is disabled
        state.cancelled() != asio::cancellation_type::none)
        throw error(asio::error::operation_aborted);
    const dropper owner(new_shared<blocking_job<Result>>(pool, std::move(function), what));
    std::shared_ptr<async_job> base = owner.job;
    co_await async_job::wait_for(std::move(base));
    co_return owner.job->take();
}

// Calls `function(const stop_flag&)` on a worker and returns its result on the caller's executor. Any cancellation raises the
// flag; the operation still completes only when the function has returned, with its result or exception. If no worker has
// called the function yet, a cancellation ends the operation at once and the function is never called.
template <class Function>
asio::awaitable<std::invoke_result_t<Function&, const stop_flag&>>
run_on(worker_pool pool, Function function, when_cancelled what = when_cancelled::stop)
{
    using result = std::invoke_result_t<Function&, const stop_flag&>;
    return run_job<result>(std::move(pool), std::move(function), what);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
