#ifndef OVERMOUNT_UNPACK_REST_QUEUE_HPP
#define OVERMOUNT_UNPACK_REST_QUEUE_HPP

#include <overmount/detail/config.hpp>

#include <sys/resource.h>

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
    ~rest_queue() { give_way(); }

    // Writer: whether it may hand on. What is handed on has descriptors, of which a process has only so many: one layer in a
    // thousand of them does so, until it gives way.
    [[nodiscard]] bool take_turn() noexcept
    {
        if (has_turn_)
            return true;
        rlimit descriptors{};
        ::getrlimit(RLIMIT_NOFILE, &descriptors);
        has_turn_ = turns.fetch_add(1) < descriptors.rlim_cur / 1000;
        if (!has_turn_)
            turns.fetch_sub(1);
        return has_turn_;
    }
    void give_way() noexcept
    {
        if (std::exchange(has_turn_, false))
            turns.fetch_sub(1);
    }

    // Writer: the next part to fill, then handed on by `push`; none while the queue is full.
    [[nodiscard]] part* back() noexcept
    {
        const auto has_room = [this] { return pushed_.load() - popped_.load() != most; };
        return waits_unless(has_room) ? &parts_[pushed_.load() % most] : nullptr;
    }
    void push() noexcept { pushed_.fetch_add(1); }
    // Writer: whether all that was handed on is done.
    [[nodiscard]] bool empty() noexcept
    {
        return waits_unless([this] { return pushed_.load() == popped_.load(); });
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
        return pushed_.load() == popped_.load() ? nullptr : &parts_[popped_.load() % most];
    }
    [[nodiscard]] bool closed() const noexcept { return closed_.load(); }
    // The other side: the oldest part is done. True where the writer asked in vain before, and is to be woken.
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
    inline static std::atomic<std::size_t> turns = 0; // of the process

    // For the writer. What it wants may come true between its look and its sleep.
    template <class Condition>
    [[nodiscard]] bool waits_unless(Condition holds) noexcept
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
    bool has_turn_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
