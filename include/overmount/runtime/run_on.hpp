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

// What a cancellation means to a function that runs on a worker.
enum class when_cancelled
{
    stop,
    go_on, // it is a cleanup: the function is called and comes to its end; the caller's next co_await notices
};

// Of a function of any type, as is the coroutine that waits for it: compilers take a while for each of both.
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
    // For the coroutine, when it ends in whatever way: a result is never left to the worker.
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
        // What the function owned is gone before the coroutine goes on.
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
            return; // the worker that is inside completes, or has completed
        function_ = nullptr;
        complete(std::make_exception_ptr(error(boost::asio::error::operation_aborted)));
    }

    struct nothing
    {
    };
    const worker_pool* pool_; // lives in the coroutine, so that a worker never holds the last handle; for start() only
    when_cancelled when_cancelled_;
    std::atomic<bool> claimed_ = false; // by the worker that calls the function, or by who cancels before
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
    if (what == when_cancelled::stop && // where throw_if_cancelled is off
        state.cancelled() != asio::cancellation_type::none)
        throw error(asio::error::operation_aborted);
    const dropper owner(new_shared<blocking_job<Result>>(pool, std::move(function), what));
    std::shared_ptr<async_job> base = owner.job;
    co_await async_job::wait_for(std::move(base));
    co_return owner.job->take();
}

// Calls `function(const stop_flag&)` on a worker, and goes on with its result on the caller's executor. Any
// cancellation raises the flag; the operation completes when the function has returned, with its result where it
// returned one. A function that is still waiting for a worker is then not called, and the operation ends at once.
template <class Function>
asio::awaitable<std::invoke_result_t<Function&, const stop_flag&>>
run_on(worker_pool pool, Function function, when_cancelled what = when_cancelled::stop)
{
    using result = std::invoke_result_t<Function&, const stop_flag&>;
    return run_job<result>(std::move(pool), std::move(function), what);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
