#ifndef OVERMOUNT_RUNTIME_IMPL_SEMAPHORE_IPP
#define OVERMOUNT_RUNTIME_IMPL_SEMAPHORE_IPP

#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/semaphore.hpp>

#include <boost/asio/error.hpp>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::detail {

class semaphore::waiter final : public async_job
{
public:
    explicit waiter(std::shared_ptr<state> owner) : owner_(std::move(owner)) {}
    ~waiter() override
    {
        if (granted_ && !taken_)
            owner_->release();
    }
    OVERMOUNT_LAZY void grant()
    {
        granted_ = true;
        complete();
    }
    void take() noexcept { taken_ = true; }

private:
    void start() override
    {
        {
            const std::lock_guard guard(owner_->mutex);
            if (owner_->free == 0) {
                owner_->waiting.push_back(std::static_pointer_cast<waiter>(shared_from_this()));
                return;
            }
            --owner_->free;
        }
        grant();
    }
    void cancel() noexcept override
    {
        {
            const std::lock_guard guard(owner_->mutex);
            const auto mine = std::find_if(owner_->waiting.begin(), owner_->waiting.end(),
                                           [this](const auto& w) { return w.get() == this; });
            if (mine == owner_->waiting.end())
                return; // the permit is being granted
            owner_->waiting.erase(mine);
        }
        complete(std::make_exception_ptr(error(asio::error::operation_aborted)));
    }

    std::shared_ptr<state> owner_;
    bool granted_ = false, taken_ = false;
};

OVERMOUNT_LAZY_BODY void semaphore::state::release()
{
    std::shared_ptr<waiter> next;
    {
        const std::lock_guard guard(mutex);
        if (waiting.empty()) {
            ++free;
            return;
        }
        next = std::move(waiting.front());
        waiting.pop_front();
    }
    next->grant();
}

OVERMOUNT_LAZY_BODY asio::awaitable<semaphore::permit> semaphore::acquire_from(std::shared_ptr<state> owner)
{
    auto mine = new_shared<waiter>(owner);
    std::shared_ptr<async_job> base = mine;
    co_await async_job::wait_for(std::move(base));
    mine->take();
    co_return permit(std::move(owner));
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
