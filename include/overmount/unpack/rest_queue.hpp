#ifndef OVERMOUNT_UNPACK_REST_QUEUE_HPP
#define OVERMOUNT_UNPACK_REST_QUEUE_HPP

#include <overmount/posix/descriptor_turn.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// What a writer left to do for a part of a buffer of the tar.
template <class Rest>
struct rest_part
{
    Rest rest;
    bool ends_buffer = false;
};

// Lists on the way from the step that makes files to the step that finishes them: a few, used again and again. Wakes nobody.
template <class Rest>
class rest_queue
{
public:
    using part = rest_part<Rest>;

    rest_queue() = default;
    rest_queue(const rest_queue&) = delete;
    rest_queue& operator=(const rest_queue&) = delete;

    // Writer: whether it may hand on, with descriptors in what it hands on; it may from then on until it gives way.
    [[nodiscard]] bool take_turn() { return turn_.take(); }
    void give_way() noexcept { turn_.give_back(); }

    // Writer: the next part to fill, then handed on by `push`. None while the queue is full: to be asked again when `pop` says so.
    [[nodiscard]] part* back_or_wait() noexcept
    {
        const auto has_room = [this] { return pushed_.load() - popped_.load() != most; };
        return holds_or_wait(has_room) ? &parts_[pushed_.load() % most] : nullptr;
    }
    void push() noexcept { pushed_.fetch_add(1); }
    // Writer: whether all that was handed on is done; the second one is to be asked again when `pop` says so.
    [[nodiscard]] bool is_empty() const noexcept { return pushed_.load() == popped_.load(); }
    [[nodiscard]] bool empty_or_wait() noexcept
    {
        return holds_or_wait([this] { return is_empty(); });
    }
    // Writer: throws what the other side failed with.
    void check() const
    {
        if (failed_.load())
            std::rethrow_exception(failure_);
    }
    // Writer, once: no more comes.
    void close() noexcept { closed_.store(true); }

    // The other side: the oldest part; none where there is none.
    [[nodiscard]] part* front() noexcept
    {
        return is_empty() ? nullptr : &parts_[popped_.load() % most];
    }
    [[nodiscard]] bool closed() const noexcept { return closed_.load(); }
    // The other side: the oldest part is done. True where the writer asked in vain, and is to be woken.
    [[nodiscard]] bool pop() noexcept
    {
        popped_.fetch_add(1);
        return waits_.exchange(false);
    }
    // The other side, once: the oldest part failed, and nothing is done any more. The writer is to be woken.
    void fail(std::exception_ptr failure) noexcept
    {
        failure_ = std::move(failure);
        failed_.store(true);
    }
    [[nodiscard]] bool failed() const noexcept { return failed_.load(); }

private:
    static constexpr std::size_t most = 2;

    // For the writer. What it wants may come true between its look and its sleep.
    template <class Condition>
    [[nodiscard]] bool holds_or_wait(Condition holds) noexcept
    {
        if (holds())
            return true;
        waits_.store(true);
        return holds();
    }

    std::array<part, most> parts_;
    std::atomic<std::size_t> pushed_ = 0, popped_ = 0;
    std::atomic<bool> closed_ = false, waits_ = false, failed_ = false;
    std::exception_ptr failure_;
    descriptor_turn turn_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
