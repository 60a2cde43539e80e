#ifndef OVERMOUNT_DETAIL_RUN_ON_HPP
#define OVERMOUNT_DETAIL_RUN_ON_HPP

#include <overmount/detail/job.hpp>
#include <overmount/error.hpp>
#include <overmount/worker_pool.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>

#include <atomic>
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

template <class Function>
class blocking_job final : public async_job
{
public:
    using result = std::invoke_result_t<Function&, const stop_flag&>;

    blocking_job(const worker_pool& pool, Function function, when_cancelled what)
        : pool_(&pool), when_cancelled_(what), function_(std::move(function))
    {}

    [[nodiscard]] result take()
    {
        if constexpr (!std::is_void_v<result>)
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
            if constexpr (std::is_void_v<result>)
                (*function_)(stop_);
            else
                value_.emplace((*function_)(stop_));
        } catch (...) {
            failure = std::current_exception();
        }
        // What the function owned is gone before the coroutine goes on.
        function_.reset();
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
        function_.reset();
        complete(std::make_exception_ptr(error(boost::asio::error::operation_aborted)));
    }

    struct nothing
    {
    };
    const worker_pool* pool_; // lives in the coroutine, so that a worker never holds the last handle; for start() only
    when_cancelled when_cancelled_;
    std::atomic<bool> claimed_ = false; // by the worker that calls the function, or by who cancels before
    std::optional<Function> function_;
    std::optional<std::conditional_t<std::is_void_v<result>, nothing, result>> value_;
    stop_flag stop_;
};

// Calls `function(const stop_flag&)` on a worker, and goes on with its result on the caller's executor. Any
// cancellation raises the flag; the operation completes when the function has returned, with its result where it
// returned one. A function that is still waiting for a worker is then not called, and the operation ends at once.
template <class Function>
asio::awaitable<std::invoke_result_t<Function&, const stop_flag&>>
run_on(worker_pool pool, Function function, when_cancelled what = when_cancelled::stop)
{
    struct dropper
    {
        explicit dropper(std::shared_ptr<blocking_job<Function>> owned) : job(std::move(owned)) {}
        dropper(const dropper&) = delete;
        dropper& operator=(const dropper&) = delete;
        ~dropper() { job->drop(); }
        std::shared_ptr<blocking_job<Function>> job;
    };
    const auto state = co_await asio::this_coro::cancellation_state;
    if (what == when_cancelled::stop && // where throw_if_cancelled is off
        state.cancelled() != asio::cancellation_type::none)
        throw error(asio::error::operation_aborted);
    const dropper owner(std::make_shared<blocking_job<Function>>(pool, std::move(function), what));
    std::shared_ptr<async_job> base = owner.job;
    co_await async_job::wait_for(std::move(base));
    co_return owner.job->take();
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
