// Runs one coroutine to its end, with a time limit that fails rather than hangs.
#ifndef OVERMOUNT_TESTS_SUPPORT_RUN_COROUTINE_HPP
#define OVERMOUNT_TESTS_SUPPORT_RUN_COROUTINE_HPP

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <exception>
#include <optional>
#include <stdexcept>

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

} // namespace test

#endif
