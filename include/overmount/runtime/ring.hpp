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


namespace overmount::OVERMOUNT_ABI::detail {

// A ring of fixed buffers between one producer and a chain of readers, each of which may run on its own thread. Each reader gets
// a buffer after the previous reader has popped it; when the last reader pops it, the producer can fill it again. The ring
// notifies nobody: the caller of `push` or `pop` must notify the next in the chain.
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

    // Producer: returns the next buffer to fill; empty while the ring is full.
    [[nodiscard]] std::span<std::byte> back() noexcept
    {
        const auto pushed = passed_[0].load(std::memory_order_relaxed);
        if (pushed - passed_[last_].load(std::memory_order_acquire) == fill_.size())
            return {};
        return {slot(pushed), size_};
    }
    // Producer: passes the first `size` bytes of `back()` to the first reader. `size` is at least 1.
    void push(std::size_t size) noexcept
    {
        const auto pushed = passed_[0].load(std::memory_order_relaxed);
        fill_[pushed % fill_.size()] = size;
        passed_[0].store(pushed + 1, std::memory_order_release);
    }
    // Producer: ends the data; call it once. A reader gets `failure` after all pushed buffers.
    void close(std::exception_ptr failure = {}) noexcept
    {
        failure_ = std::move(failure);
        closed_.store(true, std::memory_order_release);
    }

    // Reader (numbered from 1): returns the oldest buffer that is available to it; empty while there is none.
    [[nodiscard]] std::span<const std::byte> front(std::size_t reader = 1) const noexcept
    {
        const auto passed = passed_[reader].load(std::memory_order_relaxed);
        if (passed == passed_[reader - 1].load(std::memory_order_acquire))
            return {};
        return {slot(passed), fill_[passed % fill_.size()]};
    }
    // Reader: passes the buffer of `front()` to the next reader, or from the last reader back to the producer.
    void pop(std::size_t reader = 1) noexcept
    {
        passed_[reader].store(passed_[reader].load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    // Whether at least half of the buffers are free. Notify a producer that found the ring full only then, so that it fills several.
    [[nodiscard]] bool has_room() const noexcept
    {
        const auto pushed = passed_[0].load(std::memory_order_acquire);
        return pushed - passed_[last_].load(std::memory_order_relaxed) <= fill_.size() / 2;
    }
    // Reader: whether the ring is closed and this reader has popped all buffers.
    [[nodiscard]] bool at_end(std::size_t reader = 1) const noexcept
    {
        // Load `closed_` first: then all buffers that were pushed before closing are visible.
        return closed_.load(std::memory_order_acquire) && passed_[reader].load(std::memory_order_relaxed) ==
                                                              passed_[0].load(std::memory_order_relaxed);
    }
    // Like `at_end`, but throws the failure that the producer passed to `close`.
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
            throw std::length_error("overmount: the size of a ring must be positive and fit into memory");
        return buffers * size;
    }
    [[nodiscard]] std::byte* slot(std::size_t index) const noexcept
    {
        return bytes_.get() + (index % fill_.size()) * size_;
    }

    std::size_t last_, size_;
    std::vector<std::size_t> fill_;
    std::unique_ptr<std::byte[]> bytes_;
    std::array<std::atomic<std::size_t>, most_readers + 1> passed_{}; // number of buffers passed on: [0] by the producer, [i] by reader i
    std::exception_ptr failure_;
    std::atomic<bool> closed_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
