#ifndef OVERMOUNT_RUNTIME_TASK_GROUP_HPP
#define OVERMOUNT_RUNTIME_TASK_GROUP_HPP

#include <overmount/runtime/job.hpp>

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <functional>
#include <list>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Child coroutines of one operation, on one strand of its executor. The first failure of a child cancels the others; a
// cancellation of the parent cancels all. The parent resumes when all children have ended.
class task_group final : public async_job
{
public:
    explicit task_group(const asio::any_io_executor& executor) : strand_(asio::make_strand(executor)) {}

    // Starts a single coroutine. It is the library's only call of co_spawn, which costs a hundred functions for each type.
    OVERMOUNT_LAZY static void spawn(const asio::any_io_executor& executor, asio::awaitable<void> work,
                                     asio::cancellation_slot slot, std::function<void(std::exception_ptr)> ended);

    // Call it only before `join`.
    void add(asio::awaitable<void> child) { children_.push_back(std::move(child)); }

    // Runs all children; rethrows the first failure.
    OVERMOUNT_LAZY static asio::awaitable<void> join(std::shared_ptr<task_group> group);

private:
    // Declared inline here, not only where they are defined: otherwise GCC emits the class and all that it uses everywhere.
    OVERMOUNT_DECL void start() override;
    OVERMOUNT_LAZY void spawn_all();
    OVERMOUNT_LAZY void child_ended(std::exception_ptr failure);
    OVERMOUNT_DECL void cancel() noexcept override;
    // The children belong to the same context, which destroys them itself.
    void abandon() noexcept override { complete(); }

    OVERMOUNT_LAZY void cancel_children();
    [[nodiscard]] std::shared_ptr<task_group> self()
    {
        return std::static_pointer_cast<task_group>(shared_from_this());
    }

    asio::any_io_executor strand_;
    std::vector<asio::awaitable<void>> children_;
    std::list<asio::cancellation_signal> signals_;
    std::size_t remaining_ = 0;
    std::exception_ptr failure_;
    bool cancelled_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/task_group.ipp>
#endif

#endif
