#ifndef OVERMOUNT_DETAIL_TASK_GROUP_HPP
#define OVERMOUNT_DETAIL_TASK_GROUP_HPP

#include <overmount/detail/job.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <list>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Children of one operation, on one strand of its executor. The first that fails has the others cancelled; so
// has a cancellation of the parent. The parent goes on when all have ended.
class task_group final : public async_job
{
public:
    explicit task_group(const asio::any_io_executor& executor) : strand_(asio::make_strand(executor)) {}

    // Before `join` only.
    void add(asio::awaitable<void> child) { children_.push_back(std::move(child)); }

    // Runs all children; rethrows the first failure.
    static asio::awaitable<void> join(std::shared_ptr<task_group> group)
    {
        std::shared_ptr<async_job> base = std::move(group);
        return async_job::wait_for(std::move(base));
    }

private:
    void start() override
    {
        asio::dispatch(strand_, [self = self()] { self->spawn_all(); });
    }

    void spawn_all()
    {
        left_ = children_.size() + 1;
        for (auto& child : children_) {
            asio::cancellation_signal& signal = signals_.emplace_back();
            asio::co_spawn(strand_, std::move(child),
                           asio::bind_cancellation_slot(signal.slot(), [self = self()](std::exception_ptr failure) {
                               self->one_ended(std::move(failure));
                           }));
        }
        children_.clear();
        if (cancelled_)
            cancel_children();
        one_ended({});
    }

    void one_ended(std::exception_ptr failure)
    {
        if (failure && !failure_) {
            failure_ = std::move(failure);
            // Later: this child is still on its way out.
            asio::post(strand_, [self = self()] { self->cancel_children(); });
        }
        if (--left_ == 0)
            complete(failure_);
    }

    void cancel() noexcept override
    {
        asio::dispatch(strand_, [self = self()] {
            self->cancelled_ = true;
            self->cancel_children();
        });
    }
    // The children are coroutines of the same context, which destroys them itself.
    void abandon() noexcept override { complete(); }

    void cancel_children()
    {
        for (asio::cancellation_signal& signal : signals_)
            signal.emit(asio::cancellation_type::terminal);
    }

    [[nodiscard]] std::shared_ptr<task_group> self()
    {
        return std::static_pointer_cast<task_group>(shared_from_this());
    }

    asio::strand<asio::any_io_executor> strand_;
    std::vector<asio::awaitable<void>> children_;
    std::list<asio::cancellation_signal> signals_;
    std::size_t left_ = 0;
    std::exception_ptr failure_;
    bool cancelled_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
