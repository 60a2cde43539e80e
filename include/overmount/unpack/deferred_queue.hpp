#ifndef OVERMOUNT_UNPACK_DEFERRED_QUEUE_HPP
#define OVERMOUNT_UNPACK_DEFERRED_QUEUE_HPP

#include <overmount/posix/descriptor_budget.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The work that a writer deferred for one part of a buffer of the tar.
template <class Deferred>
struct deferred_part
{
    Deferred work;
    bool ends_buffer = false;
};

// A bounded queue of deferred work from the write step, which creates files, to the deferred step, which finishes them. Its parts are
// reused. The queue notifies nobody: the callers do.
template <class Deferred>
class deferred_queue
{
public:
    using part = deferred_part<Deferred>;

    deferred_queue() = default;
    deferred_queue(const deferred_queue&) = delete;
    deferred_queue& operator=(const deferred_queue&) = delete;

    // Writer: tries to take a descriptor budget, which it needs to defer work with open files. It keeps it until `release_budget`.
    [[nodiscard]] bool take_budget() { return budget_.take(); }
    void release_budget() noexcept { budget_.release(); }

    // Writer: returns the next part to fill, for `push`. Null while the queue is full; `pop` then tells when to ask again.
    [[nodiscard]] part* back_or_wait() noexcept
    {
        const auto has_room = [this] { return pushed_.load() - popped_.load() != most; };
        return holds_or_set_waiting(has_room) ? &parts_[pushed_.load() % most] : nullptr;
    }
    void push() noexcept { pushed_.fetch_add(1); }
    // Writer: whether all pushed parts are done. If empty_or_wait returns false, `pop` tells when to ask again.
    [[nodiscard]] bool is_empty() const noexcept { return pushed_.load() == popped_.load(); }
    [[nodiscard]] bool empty_or_wait() noexcept
    {
        return holds_or_set_waiting([this] { return is_empty(); });
    }
    // Writer: rethrows the failure of the deferred step.
    void throw_if_failed() const
    {
        if (failed_.load())
            std::rethrow_exception(failure_);
    }
    // Writer: ends the queue; call it once.
    void close() noexcept { closed_.store(true); }

    // Deferred step: returns the oldest part; null if the queue is empty.
    [[nodiscard]] part* front() noexcept
    {
        return is_empty() ? nullptr : &parts_[popped_.load() % most];
    }
    [[nodiscard]] bool closed() const noexcept { return closed_.load(); }
    // Deferred step: removes the oldest part, which is done. True if the writer waits and must be notified.
    [[nodiscard]] bool pop() noexcept
    {
        popped_.fetch_add(1);
        return writer_waits_.exchange(false);
    }
    // Deferred step: records that the oldest part failed; call it once. No part is run afterwards. The caller must notify the writer.
    void fail(std::exception_ptr failure) noexcept
    {
        failure_ = std::move(failure);
        failed_.store(true);
    }
    [[nodiscard]] bool failed() const noexcept { return failed_.load(); }

private:
    static constexpr std::size_t most = 2;

    // Writer: whether `holds()` is true. Checks again after setting the flag, as the condition may become true in between.
    template <class Condition>
    [[nodiscard]] bool holds_or_set_waiting(Condition holds) noexcept
    {
        if (holds())
            return true;
        writer_waits_.store(true);
        return holds();
    }

    std::array<part, most> parts_;
    std::atomic<std::size_t> pushed_ = 0, popped_ = 0;
    std::atomic<bool> closed_ = false, writer_waits_ = false, failed_ = false;
    std::exception_ptr failure_;
    descriptor_budget budget_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
