#ifndef OVERMOUNT_RUNTIME_JOB_HPP
#define OVERMOUNT_RUNTIME_JOB_HPP

#include <overmount/runtime/asio.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <condition_variable>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

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
    OVERMOUNT_LAZY static asio::awaitable<void> wait_for(std::shared_ptr<async_job> job);

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
    OVERMOUNT_LAZY void complete(std::exception_ptr failure = {}) noexcept;

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
        OVERMOUNT_LAZY void shut_down() noexcept;

        std::mutex mutex;
        std::condition_variable changed;
        list running, stopping;
        bool closed = false;
    };
    OVERMOUNT_LAZY void begin(handler resume);

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
    std::shared_ptr<shared> shared_ = new_shared<shared>();
};

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/job.ipp>
#endif

#endif
