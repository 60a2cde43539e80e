// Runs one coroutine to its end, with a time limit that fails rather than hangs.
#ifndef OVERMOUNT_TESTS_SUPPORT_RUN_COROUTINE_HPP
#define OVERMOUNT_TESTS_SUPPORT_RUN_COROUTINE_HPP

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <exception>
#include <optional>
#include <stdexcept>
#include <utility>

namespace test {

inline void run_coroutine(boost::asio::awaitable<void> task, std::chrono::seconds limit = std::chrono::seconds(120))
{
    boost::asio::io_context context;
    std::optional<std::exception_ptr> ended;
    boost::asio::co_spawn(context, std::move(task), [&ended](std::exception_ptr failure) { ended = failure; });
    context.run_for(limit);
    if (!ended)
        throw std::runtime_error("the coroutine did not end in time");
    if (*ended)
        std::rethrow_exception(*ended);
}

// Runs a task for its value.
template <class Value>
boost::asio::awaitable<void> store_result(boost::asio::awaitable<Value> task, std::optional<Value>& out)
{
    out.emplace(co_await std::move(task));
}

// The result of one operation, on a context of its own.
template <class Value>
[[nodiscard]] Value get(boost::asio::awaitable<Value> task)
{
    std::optional<Value> out;
    run_coroutine(store_result(std::move(task), out));
    return std::move(out.value());
}
inline void get(boost::asio::awaitable<void> task)
{
    run_coroutine(std::move(task));
}

} // namespace test

#endif
