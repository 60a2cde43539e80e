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

#include <condition_variable>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

namespace asio = boost::asio;

namespace detail {

// One coroutine that is suspended until something outside of its executor is done. The one primitive that
// run_on, the semaphore, the task group and run_steps are built on.
//
// The coroutine goes on once, on its own executor. When its execution context shuts down before, `abandon` makes
// the work end, and the coroutine is destroyed uninvoked by the thread that destroys the context. A job keeps
// itself alive from `wait_for` until it is complete.
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

    // Ends all jobs whose coroutines belong to this context, before their workers are joined.
    class registry;

protected:
    async_job() = default;

    // The coroutine is suspended: begin. An exception completes the job.
    virtual void start() = 0;
    // From the coroutine's cancellation slot, on its executor; any number of times, also after completion.
    virtual void cancel() noexcept = 0;
    // The context shuts down: whoever works for this job must call `complete` soon, without help of the context.
    virtual void abandon() noexcept { cancel(); }

    // From any thread; the first call counts. No other thread may use what the coroutine owns afterwards.
    void complete(std::exception_ptr failure = {}) noexcept;

private:
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
    // Shared by the registry and its jobs: a worker may come here when the context is gone.
    struct shared
    {
        using list = std::list<std::shared_ptr<async_job>>;
        void shut_down() noexcept;

        std::mutex mutex;
        std::condition_variable changed;
        list running, stopping;
        bool closed = false;
    };
    void begin(handler resume);

    std::shared_ptr<shared> shared_;
    // Guarded by its mutex, once the job is in a list:
    shared::list* list_ = nullptr;
    shared::list::iterator place_;
    std::unique_ptr<suspended> suspended_;
    bool complete_ = false;
};

// The jobs of one execution context.
class async_job::registry : public asio::execution_context::service
{
public:
    using key_type = registry;
    inline static asio::execution_context::id id;

    explicit registry(asio::execution_context& context) : asio::execution_context::service(context) {}
    // Also called by the service of the worker pool: the order in which services shut down is that of first use.
    void shutdown() noexcept override { shared_->shut_down(); }

private:
    friend class async_job;
    std::shared_ptr<shared> shared_ = std::make_shared<shared>();
};

inline void async_job::begin(handler resume)
{
    const auto self = shared_from_this();
    const auto executor = asio::get_associated_executor(resume);
    shared_ = asio::use_service<registry>(asio::query(executor, asio::execution::context)).shared_;
    auto slot = asio::get_associated_cancellation_slot(resume);
    if (slot.is_connected()) {
        slot.assign([job = weak_from_this()](asio::cancellation_type) {
            if (const auto live = job.lock())
                live->cancel();
        });
    }
    {
        shared::list one{self};
        const std::lock_guard guard(shared_->mutex);
        suspended_.reset(
            new suspended{asio::executor_work_guard<asio::any_io_executor>(executor), std::move(resume)});
        place_ = one.begin();
        list_ = &shared_->running;
        shared_->running.splice(shared_->running.end(), one);
    }
    try {
        start();
    } catch (...) {
        complete(std::current_exception());
    }
}

inline void async_job::complete(std::exception_ptr failure) noexcept
{
    const auto self = shared_from_this();
    std::unique_ptr<suspended> waiting;
    {
        const std::lock_guard guard(shared_->mutex);
        if (std::exchange(complete_, true))
            return;
        if (shared_->closed) { // the thread that shuts down destroys the coroutine
            shared_->changed.notify_all();
            return;
        }
        waiting = std::move(suspended_);
    }
    // The job stays in its list meanwhile: the context must not go while we post to it.
    asio::any_io_executor executor = waiting->work.get_executor();
    asio::post(executor, [waiting = std::move(waiting), failure = std::move(failure)]() mutable {
        handler resume = std::move(waiting->resume);
        waiting.reset();
        // The slot may hold a handler of this job, which is over.
        if (auto slot = asio::get_associated_cancellation_slot(resume); slot.is_connected())
            slot.clear();
        std::move(resume)(std::move(failure));
    });
    executor = {}; // a strand must not outlive its context either
    shared::list out;
    {
        const std::lock_guard guard(shared_->mutex);
        out.splice(out.end(), *list_, place_);
        shared_->changed.notify_all();
    }
}

// Two rounds: destroying one coroutine may join workers that are busy for another one. Nothing that may be the last
// owner goes under the lock.
inline void async_job::shared::shut_down() noexcept
{
    std::unique_lock lock(mutex);
    closed = true;
    while (!running.empty()) {
        auto job = running.front();
        stopping.splice(stopping.end(), running, job->place_);
        job->list_ = &stopping;
        lock.unlock();
        job->abandon();
        job.reset();
        lock.lock();
    }
    while (!stopping.empty()) {
        async_job& next = *stopping.front();
        if (!next.complete_ || !next.suspended_) { // a worker is at it, or posts its completion
            changed.wait(lock);
            continue;
        }
        list out;
        out.splice(out.end(), stopping, next.place_);
        auto dropped = std::move(next.suspended_);
        lock.unlock();
        dropped.reset(); // the coroutine is destroyed here
        out.clear();
        lock.lock();
    }
}

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

#endif
