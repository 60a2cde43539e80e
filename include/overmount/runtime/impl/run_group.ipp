#ifndef OVERMOUNT_RUNTIME_IMPL_RUN_GROUP_IPP
#define OVERMOUNT_RUNTIME_IMPL_RUN_GROUP_IPP

#include <overmount/core/error.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_group.hpp>
#include <overmount/runtime/task_group.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The message of the code alone speaks of a connection.
OVERMOUNT_LAZY inline error limit_reached(std::chrono::steady_clock::duration limit)
{
    const auto count = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
    const std::string text = count % 1000 == 0 ? std::to_string(count / 1000) + " s" : std::to_string(count) + " ms";
    return error(asio::error::timed_out).detail("the time limit of " + text + " was reached");
}

OVERMOUNT_LAZY inline asio::awaitable<void> fail_after(std::shared_ptr<asio::steady_timer> timer, std::chrono::steady_clock::duration limit)
{
    boost::system::error_code stopped;
    co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, stopped));
    if (!stopped)
        throw limit_reached(limit);
}

OVERMOUNT_LAZY inline asio::awaitable<void> join_before(std::shared_ptr<task_group> group, std::shared_ptr<asio::steady_timer> timer)
{
    co_await task_group::join(std::move(group));
    timer->cancel();
}

OVERMOUNT_LAZY_BODY asio::awaitable<void> run_group(std::vector<asio::awaitable<void>> children,
                                                    std::optional<std::chrono::steady_clock::duration> limit)
{
    const auto executor = co_await asio::this_coro::executor;
    auto group = new_shared<task_group>(executor);
    for (auto& child : children)
        group->add(std::move(child));
    if (limit) {
        // An outer group of two: the timer, which starts before the children do, and the group of the children.
        auto timer = new_shared<asio::steady_timer>(executor, *limit);
        auto timed = new_shared<task_group>(executor);
        timed->add(fail_after(timer, *limit));
        timed->add(join_before(std::move(group), std::move(timer)));
        group = std::move(timed);
    }
    co_await task_group::join(std::move(group));
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
