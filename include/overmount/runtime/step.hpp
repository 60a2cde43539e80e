#ifndef OVERMOUNT_RUNTIME_STEP_HPP
#define OVERMOUNT_RUNTIME_STEP_HPP

#include <overmount/runtime/job.hpp>
#include <overmount/runtime/run_on.hpp>

#include <atomic>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

enum class step_state
{
    again, // has more to do: resume it again, after other waiting jobs of the pool
    wait,  // has nothing to do until `notify` is called
    done,
};

class step_group;

// A unit of work that never waits: it does what it can and returns. At most one worker runs a step at a time. Steps refer to each
// other by plain or weak pointers, since the group owns all of them until all are done.
class step
{
public:
    virtual ~step() = default;
    step(const step&) = delete;
    step& operator=(const step&) = delete;

    // Schedules the step to run, or to run once more if it is running now. Callable from any thread. Does nothing before run_steps
    // and when the step is done.
    OVERMOUNT_LAZY void notify() noexcept;

protected:
    step() = default;

    // Whether another worker is idle and could take work now. Always false in `run_here`.
    OVERMOUNT_LAZY [[nodiscard]] bool has_idle_worker() const noexcept;

private:
    friend class step_group;
    // Runs on a worker. If the flag is raised, this is the step's last run, to clean up.
    virtual step_state resume(const stop_flag& stop) = 0;

    OVERMOUNT_LAZY void run() noexcept;

    enum class status
    {
        inactive,
        idle,
        queued,
        running,
        notified
    };
    std::atomic<status> status_ = status::inactive;
    step_group* group_ = nullptr; // owns this step; valid until all steps are done
};

// Runs all steps on the pool until they are done; one worker is enough. The first failure or a cancellation raises the flag;
// every other step then runs at most once more. Completes with the first failure when no worker runs a step any more. The group
// has released its steps by then.
OVERMOUNT_LAZY asio::awaitable<void> run_steps(worker_pool pool, std::shared_ptr<step_group> group);

// Steps that pass work to each other and end together.
class step_group final : public async_job
{
public:
    // Call it only before run_steps.
    void add(std::shared_ptr<step> one) { steps_.push_back(std::move(one)); }

    OVERMOUNT_LAZY_BODY friend asio::awaitable<void> run_steps(worker_pool pool, std::shared_ptr<step_group> group);

    // Runs the steps on the calling thread, round-robin, until all are done. For work that is too small to pay for notifying workers.
    // Rethrows the first exception of a step; a step throws when the flag is raised. Steps may only wait for each other.
    void run_here(const stop_flag& stop)
    {
        for (auto left = steps_; !left.empty();)
            std::erase_if(left, [&stop](const auto& one) { return one->resume(stop) == step_state::done; });
        steps_.clear();
    }

private:
    friend class step;
    void start() override
    {
        remaining_ = steps_.size() + 1;
        for (const auto& one : steps_) {
            one->group_ = this;
            one->status_ = step::status::idle;
        }
        for (const auto& one : steps_)
            one->notify();
        step_ended();
    }
    void cancel() noexcept override { stop({}); }

    // The job holds a plain pointer: a queued or running step is not done, so its group still owns it.
    void post(step* one) noexcept
    {
        pool_->post([one] { one->run(); });
    }
    // Raises the flag and notifies all steps. The first failure becomes the result of the group.
    OVERMOUNT_LAZY void stop(std::exception_ptr failure) noexcept
    {
        {
            const std::lock_guard guard(mutex_);
            if (failure && !failure_)
                failure_ = std::move(failure);
            if (stop_.stopped() || remaining_ == 0)
                return;
            stop_.raise();
            ++remaining_; // keeps the steps alive until all are notified
        }
        for (const auto& one : steps_)
            one->notify();
        step_ended();
    }
    // Records that a step was stopped before it was done.
    void record_abort() noexcept
    {
        const std::lock_guard guard(mutex_);
        if (!failure_)
            failure_ = std::make_exception_ptr(error(asio::error::operation_aborted));
    }
    OVERMOUNT_LAZY void step_ended() noexcept
    {
        std::exception_ptr failure;
        std::vector<std::shared_ptr<step>> all; // destroyed before the coroutine resumes
        {
            const std::lock_guard guard(mutex_);
            if (--remaining_ != 0)
                return;
            failure = std::move(failure_);
            all = std::move(steps_);
        }
        all.clear();
        complete(std::move(failure));
    }

    const worker_pool* pool_ = nullptr; // owned by the coroutine; valid until all steps are done
    stop_flag stop_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<step>> steps_;
    std::size_t remaining_ = 0;
    std::exception_ptr failure_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/step.ipp>
#endif

#endif
