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

namespace overmount::OVERMOUNT_ABI {

namespace detail {

// Suspends one coroutine until work outside of its executor is complete. run_on, the semaphore, the task group and run_steps
// are built on it.
//
// The coroutine resumes exactly once, on its own executor. If its execution context shuts down first, `abandon` ends the work,
// and the thread that destroys the context destroys the coroutine without resuming it. A job keeps itself alive from `wait_for`
// until it is complete.
class async_job : public std::enable_shared_from_this<async_job>
{
public:
    using handler = asio::async_result<asio::use_awaitable_t<>, void(std::exception_ptr)>::handler_type;

    virtual ~async_job() = default;
    async_job(const async_job&) = delete;
    async_job& operator=(const async_job&) = delete;

    // Suspends the calling coroutine and starts the work.
    OVERMOUNT_LAZY static asio::awaitable<void> wait_for(std::shared_ptr<async_job> job);

    // Holds the jobs of one execution context and ends them before the context's workers are joined.
    class registry;

protected:
    async_job() = default;

    // Starts the work. The coroutine is suspended by now. An exception completes the job.
    virtual void start() = 0;
    // Called by the coroutine's cancellation slot, on its executor, any number of times, possibly after completion.
    virtual void cancel() noexcept = 0;
    // Called when the context shuts down. The work must call `complete` soon, without using the context.
    virtual void abandon() noexcept { cancel(); }

    // Completes the job, from any thread; only the first call counts. After it, other threads must not use what the coroutine owns.
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
    // The suspended coroutine. It is on the heap so that its owner can change: its members are not assignable.
    struct suspended
    {
        asio::executor_work_guard<asio::any_io_executor> work;
        handler resume;
    };
    // State shared by the registry and its jobs: a worker may use it after the context is destroyed.
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
    // Guarded by `shared_->mutex` once the job is in a list:
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
    // The worker pool's service calls it as well, because the order in which services shut down depends on their first use.
    void shutdown() noexcept override { shared_->shut_down(); }

private:
    friend class async_job;
    std::shared_ptr<shared> shared_ = new_shared<shared>();
};

} // namespace detail
} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/job.ipp>
#endif

#endif
