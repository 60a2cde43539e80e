#ifndef OVERMOUNT_RUNTIME_RING_HPP
#define OVERMOUNT_RUNTIME_RING_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <overmount/core/config.hpp>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>


namespace overmount::inline OVERMOUNT_ABI::detail {

// A few fixed buffers from one producer to its readers, each of which may be a thread of its own. The readers stand in
// line: each gets a buffer when the one before it has given it on, and the last one gives it back to the producer. The
// ring wakes nobody: who pushes or pops notifies the next in line.
class ring
{
public:
    static constexpr std::size_t most_readers = 3;

    explicit ring(std::size_t readers = 1, std::size_t buffers = 4, std::size_t size = 256 * 1024)
        : last_(std::clamp<std::size_t>(readers, 1, most_readers)), size_(size), fill_(buffers),
          bytes_(std::make_unique_for_overwrite<std::byte[]>(checked(buffers, size)))
    {}
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;

    // Producer: the next buffer to fill; empty while the ring is full.
    [[nodiscard]] std::span<std::byte> back() noexcept
    {
        const auto pushed = passed_[0].load(std::memory_order_relaxed);
        if (pushed - passed_[last_].load(std::memory_order_acquire) == fill_.size())
            return {};
        return {slot(pushed), size_};
    }
    // Producer: hands over the first `size` bytes of `back()`, at least one.
    void push(std::size_t size) noexcept
    {
        const auto pushed = passed_[0].load(std::memory_order_relaxed);
        fill_[pushed % fill_.size()] = size;
        passed_[0].store(pushed + 1, std::memory_order_release);
    }
    // Producer, once: there will be no more; a reader gets `failure` after what was pushed.
    void close(std::exception_ptr failure = {}) noexcept
    {
        failure_ = std::move(failure);
        closed_.store(true, std::memory_order_release);
    }

    // Reader, the first one is 1: the oldest buffer that has come to it; empty while there is none.
    [[nodiscard]] std::span<const std::byte> front(std::size_t reader = 1) const noexcept
    {
        const auto passed = passed_[reader].load(std::memory_order_relaxed);
        if (passed == passed_[reader - 1].load(std::memory_order_acquire))
            return {};
        return {slot(passed), fill_[passed % fill_.size()]};
    }
    // Reader: gives the buffer of `front()` on.
    void pop(std::size_t reader = 1) noexcept
    {
        passed_[reader].store(passed_[reader].load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    // Whether half of it or more is free: that is when a producer who found it full is woken, to fill more than one buffer.
    [[nodiscard]] bool has_room() const noexcept
    {
        const auto pushed = passed_[0].load(std::memory_order_acquire);
        return pushed - passed_[last_].load(std::memory_order_relaxed) <= fill_.size() / 2;
    }
    // Reader: whether all has passed it and no more comes.
    [[nodiscard]] bool at_end(std::size_t reader = 1) const noexcept
    {
        // In this order: what was pushed before closing is seen.
        return closed_.load(std::memory_order_acquire) && passed_[reader].load(std::memory_order_relaxed) ==
                                                              passed_[0].load(std::memory_order_relaxed);
    }
    // As `at_end`; throws what the producer closed with.
    [[nodiscard]] bool finished(std::size_t reader = 1) const
    {
        if (!at_end(reader))
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

    std::size_t last_, size_;
    std::vector<std::size_t> fill_;
    std::unique_ptr<std::byte[]> bytes_;
    std::array<std::atomic<std::size_t>, most_readers + 1> passed_{}; // the producer, and the readers
    std::exception_ptr failure_;
    std::atomic<bool> closed_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
