#ifndef OVERMOUNT_RUNTIME_SEMAPHORE_HPP
#define OVERMOUNT_RUNTIME_SEMAPHORE_HPP

#include <overmount/core/error.hpp>
#include <overmount/runtime/job.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <deque>

namespace overmount::OVERMOUNT_ABI::detail {

// An asynchronous counting semaphore. Coroutines of any executor wait for a permit, in the order of their requests.
class semaphore
{
    class waiter;
    struct state
    {
        explicit state(unsigned permits) : free(permits) {}
        std::mutex mutex;
        unsigned free;
        std::deque<std::shared_ptr<waiter>> waiting;
        OVERMOUNT_LAZY void release();
    };

public:
    explicit semaphore(unsigned permits) : state_(new_shared<state>(permits)) {}

    // Holds one permit; the destructor releases it.
    class permit
    {
    public:
        permit(permit&& other) noexcept = default;
        permit& operator=(permit&& other) noexcept
        {
            std::swap(state_, other.state_);
            return *this;
        }
        ~permit()
        {
            if (state_)
                state_->release();
        }

    private:
        friend class semaphore;
        explicit permit(std::shared_ptr<state> owner) noexcept : state_(std::move(owner)) {}
        std::shared_ptr<state> state_;
    };

    OVERMOUNT_LAZY asio::awaitable<permit> acquire() { return acquire_from(state_); }

private:
    OVERMOUNT_LAZY static asio::awaitable<permit> acquire_from(std::shared_ptr<state> owner);

    std::shared_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/semaphore.ipp>
#endif

#endif
