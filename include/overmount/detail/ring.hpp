#ifndef OVERMOUNT_DETAIL_RING_HPP
#define OVERMOUNT_DETAIL_RING_HPP

#include <overmount/detail/config.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// A few fixed buffers between one producer and one consumer, which may be two threads. It wakes nobody: who
// pushes or pops notifies the other side.
class ring
{
public:
    explicit ring(std::size_t buffers = 4, std::size_t size = 256 * 1024)
        : size_(size), fill_(buffers),
          bytes_(std::make_unique_for_overwrite<std::byte[]>(checked(buffers, size)))
    {}
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;

    // Producer: the next buffer to fill; empty while the ring is full.
    [[nodiscard]] std::span<std::byte> back() noexcept
    {
        const auto pushed = pushed_.load(std::memory_order_relaxed);
        if (pushed - popped_.load(std::memory_order_acquire) == fill_.size())
            return {};
        return {slot(pushed), size_};
    }
    // Producer: hands over the first `size` bytes of `back()`, at least one.
    void push(std::size_t size) noexcept
    {
        const auto pushed = pushed_.load(std::memory_order_relaxed);
        fill_[pushed % fill_.size()] = size;
        pushed_.store(pushed + 1, std::memory_order_release);
    }
    // Producer, once: there will be no more; the consumer gets `failure` after what was pushed.
    void close(std::exception_ptr failure = {}) noexcept
    {
        failure_ = std::move(failure);
        closed_.store(true, std::memory_order_release);
    }

    // Consumer: the oldest buffer that was pushed; empty while there is none.
    [[nodiscard]] std::span<const std::byte> front() const noexcept
    {
        const auto popped = popped_.load(std::memory_order_relaxed);
        if (popped == pushed_.load(std::memory_order_acquire))
            return {};
        return {slot(popped), fill_[popped % fill_.size()]};
    }
    // Consumer: gives the buffer of `front()` back.
    void pop() noexcept
    {
        popped_.store(popped_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    // Consumer: whether all was popped and no more comes; throws what the producer closed with.
    [[nodiscard]] bool finished() const
    {
        // In this order: what was pushed before closing is seen.
        if (!closed_.load(std::memory_order_acquire) || !front().empty())
            return false;
        if (failure_)
            std::rethrow_exception(failure_);
        return true;
    }

private:
    static std::size_t checked(std::size_t buffers, std::size_t size)
    {
        if (buffers == 0 || size == 0 || size > static_cast<std::size_t>(-1) / buffers)
            throw std::length_error("overmount: a ring of no or too much memory");
        return buffers * size;
    }
    [[nodiscard]] std::byte* slot(std::size_t index) const noexcept
    {
        return bytes_.get() + (index % fill_.size()) * size_;
    }

    std::size_t size_;
    std::vector<std::size_t> fill_;
    std::unique_ptr<std::byte[]> bytes_;
    std::atomic<std::size_t> pushed_ = 0, popped_ = 0;
    std::exception_ptr failure_;
    std::atomic<bool> closed_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
