#ifndef OVERMOUNT_RUNTIME_IMPL_JOB_IPP
#define OVERMOUNT_RUNTIME_IMPL_JOB_IPP

#include <overmount/runtime/job.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY asio::awaitable<void> async_job::wait_for(std::shared_ptr<async_job> job)
{
    // `initiation` is a plain function object: GCC 12 destroys a capturing lambda inside a co_await expression twice.
    return asio::async_initiate<asio::use_awaitable_t<>, void(std::exception_ptr)>(initiation(), token(), std::move(job));
}

OVERMOUNT_LAZY_BODY void async_job::begin(handler resume)
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

OVERMOUNT_LAZY_BODY void async_job::complete(std::exception_ptr failure) noexcept
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
    // The job stays in its list until then: the context must not be destroyed while we post to it.
    asio::any_io_executor executor = waiting->work.get_executor();
    asio::post(executor, [waiting = std::move(waiting), failure = std::move(failure)]() mutable {
        handler resume = std::move(waiting->resume);
        waiting.reset();
        // The slot may still hold the handler of this job, which has ended.
        if (auto slot = asio::get_associated_cancellation_slot(resume); slot.is_connected())
            slot.clear();
        std::move(resume)(std::move(failure));
    });
    executor = {}; // a strand must not outlive its context
    shared::list out;
    {
        const std::lock_guard guard(shared_->mutex);
        out.splice(out.end(), *list_, place_);
        shared_->changed.notify_all();
    }
}

// Two phases, since destroying one coroutine may join workers that run a job of another one: first abandon all jobs, then destroy
// their coroutines. No potential last owner is released under the lock.
OVERMOUNT_LAZY_BODY void async_job::shared::shut_down() noexcept
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
        if (!next.complete_ || !next.suspended_) { // a worker still runs it, or is posting its completion
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

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
