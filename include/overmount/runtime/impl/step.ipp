#ifndef OVERMOUNT_RUNTIME_IMPL_STEP_IPP
#define OVERMOUNT_RUNTIME_IMPL_STEP_IPP

#include <overmount/runtime/step.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY void step::notify() noexcept
{
    for (status now = status_.load();;) {
        if (now == status::idle) {
            if (status_.compare_exchange_weak(now, status::queued)) {
                group_->post(this);
                return;
            }
        } else if (now == status::running) {
            if (status_.compare_exchange_weak(now, status::notified))
                return;
        } else if (now == status::inactive || status_.compare_exchange_weak(now, now)) {
            return; // the unchanged value was written, so that the step's next run sees all writes before this call
        }
    }
}

OVERMOUNT_LAZY_BODY bool step::has_idle_worker() const noexcept { return group_ != nullptr && group_->pool_->has_idle(); }

OVERMOUNT_LAZY_BODY void step::run() noexcept
{
    step_group& group = *group_;
    auto state = step_state::done;
    do {
        status_.exchange(status::running); // synchronizes with the last notification and all writes before it
        const bool last = group.stop_.stopped();
        try {
            state = resume(group.stop_);
            if (last && state != step_state::done) {
                group.record_abort();
                state = step_state::done;
            }
        } catch (...) {
            group.stop(std::current_exception());
            state = step_state::done;
        }
    } while (state == step_state::again && !group.pool_->has_jobs());
    if (state == step_state::done) {
        status_ = status::inactive;
        group.step_ended(); // this step may be destroyed now
        return;
    }
    auto expected = status::running;
    if (state == step_state::wait && status_.compare_exchange_strong(expected, status::idle))
        return; // another worker may run it already
    status_ = status::queued;
    group.post(this);
}

OVERMOUNT_LAZY_BODY asio::awaitable<void> run_steps(worker_pool pool, std::shared_ptr<step_group> group)
{
    group->pool_ = &pool;
    co_await async_job::wait_for(std::move(group));
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
