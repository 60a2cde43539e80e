// Runs work under the repository's lock. No thread blocks in a system call for the lock: the worker thread that is to do the work
// tries to take it, and a timer starts the next attempt.
#ifndef OVERMOUNT_REPOSITORY_LOCKED_HPP
#define OVERMOUNT_REPOSITORY_LOCKED_HPP

#include <overmount/repository/records/store.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/pause.hpp>
#include <overmount/runtime/run_on.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The pauses between attempts to take something that another operation or process holds, and the time limit for all attempts.
class patience
{
public:
    static constexpr std::chrono::milliseconds longest_pause{20};

    explicit patience(std::chrono::steady_clock::duration limit)
        : end_(std::chrono::steady_clock::now() + std::min<std::chrono::steady_clock::duration>(limit, std::chrono::hours(24 * 365)))
    {}

    [[nodiscard]] bool is_over() const { return std::chrono::steady_clock::now() >= end_; }
    [[nodiscard]] std::chrono::steady_clock::duration next() noexcept
    {
        return std::exchange(pause_, std::min<std::chrono::steady_clock::duration>(pause_ * 2, longest_pause));
    }

private:
    std::chrono::steady_clock::time_point end_;
    std::chrono::steady_clock::duration pause_ = std::chrono::milliseconds(1);
};

// Calls `attempt(const stop_flag&)` on a worker thread until it returns true. Throws `repository_busy` after `limit`.
OVERMOUNT_LAZY [[nodiscard]] inline asio::awaitable<void> try_until(worker_pool pool, std::function<bool(const stop_flag&)> attempt,
                                                                    std::chrono::steady_clock::duration limit, std::string subject,
                                                                    when_cancelled what = when_cancelled::stop)
{
    patience mine(limit);
    for (;;) {
        auto once = attempt;
        if (co_await run_on(pool, std::move(once), what))
            co_return;
        if (mine.is_over())
            throw error(errc::repository_busy).at(stage::repository).subject(subject);
        // Otherwise Asio would throw its own error type at the next co_await.
        const auto state = co_await asio::this_coro::cancellation_state; // named: GCC 12 cannot deduce its type in a template
        if (state.cancelled() != asio::cancellation_type::none)
            throw error(asio::error::operation_aborted);
        co_await pause(mine.next());
    }
}

// Calls `attempt(const stop_flag&)` on a worker thread until it returns a value. Throws as `try_until`.
template <class Result>
asio::awaitable<Result> retry_until(worker_pool pool, std::function<std::optional<Result>(const stop_flag&)> attempt,
                                    std::chrono::steady_clock::duration limit, std::string subject,
                                    when_cancelled what = when_cancelled::stop)
{
    auto value = new_shared<std::optional<Result>>();
    auto once = [value, attempt = std::move(attempt)](const stop_flag& stop) {
        *value = attempt(stop);
        return value->has_value();
    };
    co_await try_until(std::move(pool), std::move(once), limit, std::move(subject), what);
    co_return std::move(**value);
}

// Calls `work(const stop_flag&)` on a worker thread that holds the repository's lock during the call; returns its result.
//
// Throws `repository_busy` if the lock is not free in time, and what `store::lock` and `work` throw. `work` must be short: it looks
// something up and leases it, or publishes what is finished.
template <class State, class Function>
asio::awaitable<std::invoke_result_t<Function&, const stop_flag&>> run_locked(std::shared_ptr<State> owner, lock_kind kind,
                                                                              Function work)
{
    using result = std::invoke_result_t<Function&, const stop_flag&>;
    struct attempts
    {
        attempts(std::shared_ptr<State> state, Function function) : owner(std::move(state)), work(std::move(function)) {}
        std::shared_ptr<State> owner;
        Function work;
        std::optional<repository_lock> lock;
        std::optional<std::conditional_t<std::is_void_v<result>, bool, result>> value;
    };
    auto all = new_shared<attempts>(owner, std::move(work));
    auto attempt = [all, kind](const stop_flag& stop) {
        if (!all->lock)
            all->lock.emplace(all->owner->records->lock(kind));
        if (!all->lock->try_take())
            return false;
        try {
            if (kind == lock_kind::roots)
                all->owner->records->imports.apply_all(durability::batch); // imports that dead processes committed
            if constexpr (std::is_void_v<result>)
                all->work(stop);
            else
                all->value.emplace(all->work(stop));
        } catch (...) {
            all->lock.reset();
            throw;
        }
        all->lock.reset();
        return true;
    };
    co_await try_until(owner->pool, std::move(attempt), owner->lock_limit, owner->records->base().string());
    if constexpr (!std::is_void_v<result>)
        co_return std::move(*all->value);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
