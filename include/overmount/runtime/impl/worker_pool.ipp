#ifndef OVERMOUNT_RUNTIME_IMPL_WORKER_POOL_IPP
#define OVERMOUNT_RUNTIME_IMPL_WORKER_POOL_IPP

#include <overmount/runtime/job.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/thread_attributes.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

// The queue that the threads share. It outlives the pool's handles if a worker destroys the last one.
struct worker_pool::queue
{
    OVERMOUNT_LAZY void run() noexcept
    {
        std::unique_lock lock(mutex);
        for (;;) {
            ++idle;
            update_hints();
            wake.wait(lock, [this] { return stopping || !jobs.empty(); });
            --idle;
            if (jobs.empty())
                return;
            std::function<void()> job = std::move(jobs.front());
            jobs.pop_front();
            update_hints();
            lock.unlock();
            job();
            job = nullptr; // release what it owns without holding the lock
            lock.lock();
        }
    }

    // Updates `waiting` and `free` after a change. The mutex must be held.
    void update_hints() noexcept
    {
        const std::size_t taken = std::min(jobs.size(), idle);
        waiting.store(jobs.size() - taken, std::memory_order_relaxed);
        free.store(idle - taken, std::memory_order_relaxed);
    }

    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::function<void()>> jobs;
    std::size_t idle = 0;                 // workers without a job, including those about to take one
    std::atomic<std::size_t> waiting = 0; // jobs in excess of idle workers, for `has_jobs`
    std::atomic<std::size_t> free = 0;    // idle workers in excess of jobs, for `has_idle`
    bool stopping = false;
};

namespace detail {

// While an object exists, new threads start with all signals blocked except those for their own faults, so that signal handlers
// and EINTR only affect the program's own threads.
class signals_blocked
{
public:
    signals_blocked() noexcept
    {
        sigset_t all;
        ::sigfillset(&all);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT})
            ::sigdelset(&all, fault);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~signals_blocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    signals_blocked(const signals_blocked&) = delete;
    signals_blocked& operator=(const signals_blocked&) = delete;

private:
    sigset_t before_;
};

} // namespace detail

struct worker_pool::state
{
    OVERMOUNT_LAZY explicit state(unsigned workers)
    {
        detail::reserve_descriptors(3072); // two for each layer of the largest image, and eight descriptor budgets
        const detail::signals_blocked blocked;
        try {
            for (unsigned i = 0; i < std::max(workers, 1u); ++i) {
                threads.emplace_back([work = work] {
                    detail::own_fs_attributes();
                    work->run();
                });
                pthread_setname_np(threads.back().native_handle(), "overmount");
            }
        } catch (...) {
            end();
            throw;
        }
    }
    ~state() { end(); }
    state(const state&) = delete;
    state& operator=(const state&) = delete;

    OVERMOUNT_LAZY void end() noexcept
    {
        {
            const std::lock_guard guard(work->mutex);
            work->stopping = true;
        }
        work->wake.notify_all();
        for (std::thread& thread : threads) {
            if (thread.get_id() == std::this_thread::get_id())
                thread.detach(); // this worker destroyed the last handle
            else
                thread.join();
        }
    }

    std::shared_ptr<queue> work = detail::new_shared<queue>();
    std::vector<std::thread> threads;
};

class worker_pool::service : public boost::asio::execution_context::service
{
public:
    using key_type = service;
    inline static boost::asio::execution_context::id id;

    OVERMOUNT_LAZY explicit service(boost::asio::execution_context& context)
        : boost::asio::execution_context::service(context),
          jobs_(boost::asio::use_service<detail::async_job::registry>(context)),
          state_(detail::new_shared<state>(std::thread::hardware_concurrency()))
    {
    }
    [[nodiscard]] worker_pool pool() const { return worker_pool(state_); }

private:
    void shutdown() override
    {
        jobs_.shutdown(); // first, so that jobs of this context are told to stop before their threads are joined
        state_.reset();
    }
    detail::async_job::registry& jobs_;
    std::shared_ptr<state> state_;
};

OVERMOUNT_LAZY_BODY worker_pool::worker_pool(unsigned workers) : state_(detail::new_shared<state>(workers)) {}

OVERMOUNT_LAZY_BODY worker_pool worker_pool::of(boost::asio::execution_context& context)
{
    return boost::asio::use_service<service>(context).pool();
}

OVERMOUNT_LAZY_BODY unsigned worker_pool::workers() const noexcept { return static_cast<unsigned>(state_->threads.size()); }

OVERMOUNT_LAZY_BODY void worker_pool::post(std::function<void()> job) const
{
    const auto work = state_->work; // a copy: the job may run and destroy this handle before we return
    {
        const std::lock_guard guard(work->mutex);
        work->jobs.push_back(std::move(job));
        work->update_hints();
    }
    work->wake.notify_one();
}

OVERMOUNT_LAZY_BODY bool worker_pool::has_jobs() const noexcept
{
    return state_->work->waiting.load(std::memory_order_relaxed) != 0;
}

OVERMOUNT_LAZY_BODY bool worker_pool::has_idle() const noexcept
{
    return state_->work->free.load(std::memory_order_relaxed) != 0;
}

} // namespace overmount::OVERMOUNT_ABI

#endif
