#ifndef OVERMOUNT_RUNTIME_STEP_HPP
#define OVERMOUNT_RUNTIME_STEP_HPP

#include <overmount/runtime/job.hpp>
#include <overmount/runtime/run_on.hpp>

#include <atomic>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

enum class step_state
{
    again, // there is more to do; others get their turn first
    wait,  // nothing to do until somebody notifies
    done,
};

class step_group;

// A unit of work that never waits: it does what it can and returns. No two workers are in one step at once.
// Steps know each other by plain pointers or weak ones: the group owns them until all are done.
class step
{
public:
    virtual ~step() = default;
    step(const step&) = delete;
    step& operator=(const step&) = delete;

    // Has the step run, once more if it is running now; from any thread. Nothing before run_steps and when
    // done.
    OVERMOUNT_LAZY void notify() noexcept;

protected:
    step() = default;

    // Whether another worker would take more work now. Not where steps run on one thread in turn.
    OVERMOUNT_LAZY [[nodiscard]] bool has_help() const noexcept;

private:
    friend class step_group;
    // On a worker. When the flag is raised, the step has this one run to leave things in order.
    virtual step_state resume(const stop_flag& stop) = 0;

    OVERMOUNT_LAZY void run() noexcept;

    enum class place
    {
        outside,
        idle,
        queued,
        running,
        notified
    };
    std::atomic<place> place_ = place::outside;
    step_group* group_ = nullptr; // owns this step, and lives, until all steps are done
};

// Runs all steps on the pool until they are done; one worker is enough. The first failure, or a cancellation,
// raises the flag: every other step then runs at most once more. Completes when no worker is in a step, with
// the first failure; the group has given up its steps by then.
OVERMOUNT_LAZY asio::awaitable<void> run_steps(worker_pool pool, std::shared_ptr<step_group> group);

// Steps that feed each other and end together.
class step_group final : public async_job
{
public:
    // Before run_steps only.
    void add(std::shared_ptr<step> one) { steps_.push_back(std::move(one)); }

    OVERMOUNT_LAZY_BODY friend asio::awaitable<void> run_steps(worker_pool pool, std::shared_ptr<step_group> group);

    // Runs the steps on this thread, in turn, until all are done: for so little work that waking workers for it costs more.
    // Throws what the first one throws, or where the flag is raised. No step may wait for anything but another one.
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
        left_ = steps_.size() + 1;
        for (const auto& one : steps_) {
            one->group_ = this;
            one->place_ = step::place::idle;
        }
        for (const auto& one : steps_)
            one->notify();
        one_ended();
    }
    void cancel() noexcept override { stop({}); }

    // The worker holds no reference: a step that is queued or runs is not done, so that its group owns it.
    void post(step* one) noexcept
    {
        pool_->post([one] { one->run(); });
    }
    // Raises the flag and wakes whoever waits; the first failure is the group's.
    OVERMOUNT_LAZY void stop(std::exception_ptr failure) noexcept
    {
        {
            const std::lock_guard guard(mutex_);
            if (failure && !failure_)
                failure_ = std::move(failure);
            if (stop_.stopped() || left_ == 0)
                return;
            stop_.raise();
            ++left_; // keeps the steps until all are notified
        }
        for (const auto& one : steps_)
            one->notify();
        one_ended();
    }
    // A step that was stopped before it was done.
    void cut_short() noexcept
    {
        const std::lock_guard guard(mutex_);
        if (!failure_)
            failure_ = std::make_exception_ptr(error(asio::error::operation_aborted));
    }
    OVERMOUNT_LAZY void one_ended() noexcept
    {
        std::exception_ptr failure;
        std::vector<std::shared_ptr<step>> all; // freed before the coroutine goes on
        {
            const std::lock_guard guard(mutex_);
            if (--left_ != 0)
                return;
            failure = std::move(failure_);
            all = std::move(steps_);
        }
        all.clear();
        complete(std::move(failure));
    }

    const worker_pool* pool_ = nullptr; // lives in the coroutine until all steps are done
    stop_flag stop_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<step>> steps_;
    std::size_t left_ = 0;
    std::exception_ptr failure_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/step.ipp>
#endif

#endif
