#ifndef OVERMOUNT_RUNTIME_IMPL_STEP_IPP
#define OVERMOUNT_RUNTIME_IMPL_STEP_IPP

#include <overmount/runtime/step.hpp>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY void step::notify() noexcept
{
    for (place now = place_.load();;) {
        if (now == place::idle) {
            if (place_.compare_exchange_weak(now, place::queued)) {
                group_->post(this);
                return;
            }
        } else if (now == place::running) {
            if (place_.compare_exchange_weak(now, place::notified))
                return;
        } else if (now == place::outside || place_.compare_exchange_weak(now, now)) {
            return; // written, though it stays the same: whoever runs the step next sees what was done before
        }
    }
}

OVERMOUNT_LAZY_BODY bool step::has_help() const noexcept { return group_ != nullptr && group_->pool_->has_idle(); }

OVERMOUNT_LAZY_BODY void step::run() noexcept
{
    step_group& group = *group_;
    auto state = step_state::done;
    do {
        place_.exchange(place::running); // reads the last notification, and what was done before it
        const bool last = group.stop_.stopped();
        try {
            state = resume(group.stop_);
            if (last && state != step_state::done) {
                group.cut_short();
                state = step_state::done;
            }
        } catch (...) {
            group.stop(std::current_exception());
            state = step_state::done;
        }
    } while (state == step_state::again && !group.pool_->has_jobs());
    if (state == step_state::done) {
        place_ = place::outside;
        group.one_ended(); // this step may be gone now
        return;
    }
    auto expected = place::running;
    if (state == step_state::wait && place_.compare_exchange_strong(expected, place::idle))
        return; // it may run on another worker already
    place_ = place::queued;
    group.post(this);
}

OVERMOUNT_LAZY_BODY asio::awaitable<void> run_steps(worker_pool pool, std::shared_ptr<step_group> group)
{
    group->pool_ = &pool;
    co_await async_job::wait_for(std::move(group));
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
