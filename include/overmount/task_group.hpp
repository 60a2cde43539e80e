#ifndef OVERMOUNT_TASK_GROUP_HPP
#define OVERMOUNT_TASK_GROUP_HPP

#include <overmount/runtime/run_group.hpp>

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// Runs operations at the same time and ends them together: the first failure cancels the other operations, and becomes the failure
/// of the group.
///
/// *Concurrency*: one object must not be used by two threads at once. The operations of a group never run on two threads at once,
/// except for their work on worker threads. *Lifetimes*: an operation that was added and never joined is destroyed with the group
/// without being started. *See*: examples/08_tokens.cpp.
class task_group
{
public:
    /// Adds an operation, which the next `join` starts: `group.add(repository.collect())`.
    void add(asio::awaitable<void> operation) { operations_.push_back(std::move(operation)); }
    /// The same for an operation with a result.
    ///
    /// \param result is assigned the result, and keeps its value if the operation fails; must live until `join` has completed
    template <class Result>
    void add(asio::awaitable<Result> operation, Result& result)
    {
        add(store(std::move(operation), &result));
    }

    /// Runs all operations that were added since the last call of `join`.
    ///
    /// *Errors*: the first failure of an operation. *Completes when*: all operations have ended. *Cancellation*: any; it cancels
    /// all operations. *Lifetimes*: the group may be destroyed before the operation completes.
    [[nodiscard]] asio::awaitable<void> join() { return detail::run_group(std::exchange(operations_, {}), std::nullopt); }
    /// The same with one time limit for all operations.
    ///
    /// *Errors*: also `asio::error::timed_out` if the limit was reached before any failure; all operations were cancelled then.
    [[nodiscard]] asio::awaitable<void> join(std::chrono::steady_clock::duration limit)
    {
        return detail::run_group(std::exchange(operations_, {}), limit);
    }

private:
    template <class Result>
    static asio::awaitable<void> store(asio::awaitable<Result> operation, Result* result)
    {
        *result = co_await std::move(operation);
    }

    std::vector<asio::awaitable<void>> operations_;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
