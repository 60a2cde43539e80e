#ifndef OVERMOUNT_RUNTIME_IMPL_TASK_GROUP_IPP
#define OVERMOUNT_RUNTIME_IMPL_TASK_GROUP_IPP

#include <overmount/runtime/task_group.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY asio::awaitable<void> task_group::join(std::shared_ptr<task_group> group)
{
    std::shared_ptr<async_job> base = std::move(group);
    return async_job::wait_for(std::move(base));
}

OVERMOUNT_DECL void task_group::start()
{
    asio::dispatch(strand_, [self = self()] { self->spawn_all(); });
}

OVERMOUNT_LAZY_BODY void task_group::spawn(const asio::any_io_executor& executor, asio::awaitable<void> work,
                                           asio::cancellation_slot slot, std::function<void(std::exception_ptr)> ended)
{
    asio::co_spawn(executor, std::move(work), asio::bind_cancellation_slot(slot, std::move(ended)));
}

OVERMOUNT_LAZY_BODY void task_group::spawn_all()
{
    remaining_ = children_.size() + 1;
    for (auto& child : children_) {
        asio::cancellation_signal& signal = signals_.emplace_back();
        spawn(strand_, std::move(child), signal.slot(),
              [self = self()](std::exception_ptr failure) { self->child_ended(std::move(failure)); });
    }
    children_.clear();
    if (cancelled_)
        cancel_children();
    child_ended({});
}

OVERMOUNT_LAZY_BODY void task_group::child_ended(std::exception_ptr failure)
{
    if (failure && !failure_) {
        failure_ = std::move(failure);
        // Posted, since this child has not ended completely yet.
        asio::post(strand_, [self = self()] { self->cancel_children(); });
    }
    if (--remaining_ == 0)
        complete(failure_);
}

OVERMOUNT_DECL void task_group::cancel() noexcept
{
    asio::dispatch(strand_, [self = self()] {
        self->cancelled_ = true;
        self->cancel_children();
    });
}
OVERMOUNT_LAZY_BODY void task_group::cancel_children()
{
    for (asio::cancellation_signal& signal : signals_)
        signal.emit(asio::cancellation_type::terminal);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
