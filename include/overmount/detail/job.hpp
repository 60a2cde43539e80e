#ifndef OVERMOUNT_DETAIL_JOB_HPP
#define OVERMOUNT_DETAIL_JOB_HPP

#include <overmount/detail/config.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

namespace asio = boost::asio;

namespace detail {

// One coroutine that is suspended until something outside of its executor is done. The one primitive that
// run_on, the semaphore and the task group are built on.
//
// The coroutine goes on once, on its own executor. When its execution context shuts down before, `abandon` makes
// the work stop, and the coroutine is destroyed there and then.
class async_job : public std::enable_shared_from_this<async_job>
{
public:
    using handler = asio::async_result<asio::use_awaitable_t<>, void(std::exception_ptr)>::handler_type;

    virtual ~async_job() = default;
    async_job(const async_job&) = delete;
    async_job& operator=(const async_job&) = delete;

    // Suspends the calling coroutine and starts the work.
    static asio::awaitable<void> wait_for(std::shared_ptr<async_job> job)
    {
        // A plain initiating function object: GCC 12 destroys a capturing lambda in a co_await twice.
        return asio::async_initiate<asio::use_awaitable_t<>, void(std::exception_ptr)>(
            initiation(), token(), std::move(job));
    }

protected:
    async_job() = default;

    // The coroutine is suspended: begin. An exception completes the job.
    virtual void start() = 0;
    // From the coroutine's cancellation slot, on its executor.
    virtual void cancel() noexcept = 0;
    // The context shuts down: returns when no other thread works for this job any more.
    virtual void abandon() noexcept { cancel(); }

    // From any thread; the first call counts.
    void complete(std::exception_ptr failure = {});

private:
    class registry;
    friend class registry;

    struct initiation
    {
        void operator()(handler resume, std::shared_ptr<async_job> job) const { job->begin(std::move(resume)); }
    };
    static asio::use_awaitable_t<>& token()
    {
        static asio::use_awaitable_t<> value;
        return value;
    }
    // What is suspended. On the heap, so that it can be handed over: its parts cannot be assigned.
    struct suspended
    {
        asio::executor_work_guard<asio::any_io_executor> work;
        handler resume;
    };
    void begin(handler resume);
    [[nodiscard]] std::unique_ptr<suspended> take() noexcept
    {
        const std::lock_guard guard(mutex_);
        return std::move(suspended_);
    }

    std::mutex mutex_;
    std::mutex completing_; // held while a thread hands the coroutine over: its context must live so long
    std::unique_ptr<suspended> suspended_;
    registry* registry_ = nullptr;
};

// The jobs of one execution context.
class async_job::registry : public asio::execution_context::service
{
public:
    using key_type = registry;
    static asio::execution_context::id id;

    explicit registry(asio::execution_context& context) : asio::execution_context::service(context) {}

    void add(async_job& job)
    {
        const std::lock_guard guard(mutex_);
        jobs_.insert(&job);
    }
    void remove(async_job& job)
    {
        const std::lock_guard guard(mutex_);
        jobs_.erase(&job);
    }

private:
    void shutdown() override
    {
        for (;;) {
            std::shared_ptr<async_job> job;
            {
                const std::lock_guard guard(mutex_);
                if (jobs_.empty())
                    return;
                job = (*jobs_.begin())->weak_from_this().lock();
                jobs_.erase(jobs_.begin());
            }
            if (!job)
                continue;
            job->abandon();
            const std::lock_guard guard(job->completing_);
            const auto dropped = job->take(); // the coroutine is destroyed here
        }
    }

    std::mutex mutex_;
    std::set<async_job*> jobs_;
};

inline asio::execution_context::id async_job::registry::id;

inline void async_job::begin(handler resume)
{
    const auto executor = asio::get_associated_executor(resume);
    registry_ = &asio::use_service<registry>(asio::query(executor, asio::execution::context));
    auto slot = asio::get_associated_cancellation_slot(resume);
    if (slot.is_connected()) {
        slot.assign([job = weak_from_this()](asio::cancellation_type) {
            if (const auto live = job.lock())
                live->cancel();
        });
    }
    {
        const std::lock_guard guard(mutex_);
        suspended_.reset(new suspended{asio::executor_work_guard<asio::any_io_executor>(executor), std::move(resume)});
    }
    registry_->add(*this);
    const auto self = shared_from_this();
    try {
        start();
    } catch (...) {
        complete(std::current_exception());
    }
}

inline void async_job::complete(std::exception_ptr failure)
{
    const auto self = shared_from_this();
    const std::lock_guard guard(completing_);
    auto waiting = take();
    if (!waiting)
        return;
    const auto executor = waiting->work.get_executor();
    asio::post(executor, [waiting = std::move(waiting), failure]() mutable {
        handler resume = std::move(waiting->resume);
        waiting.reset();
        // The slot may hold a handler of this job, which is over.
        if (auto slot = asio::get_associated_cancellation_slot(resume); slot.is_connected())
            slot.clear();
        std::move(resume)(failure);
    });
    // Last: as long as the job is registered, its context waits for the lock above before it goes.
    registry_->remove(*this);
}

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

#endif
