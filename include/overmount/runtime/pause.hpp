#ifndef OVERMOUNT_RUNTIME_PAUSE_HPP
#define OVERMOUNT_RUNTIME_PAUSE_HPP

#include <overmount/core/error.hpp>
#include <overmount/runtime/asio.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>

namespace overmount::OVERMOUNT_ABI::detail {

// Waits for the given time. Throws `operation_aborted` when cancelled, like every operation.
OVERMOUNT_LAZY [[nodiscard]] inline asio::awaitable<void> pause(std::chrono::steady_clock::duration time)
{
    asio::steady_timer timer(co_await asio::this_coro::executor, time);
    const auto state = co_await asio::this_coro::cancellation_state;
    boost::system::error_code failure;
    if (state.cancelled() == asio::cancellation_type::none) // needed if throw_if_cancelled is disabled
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, failure));
    if (failure || state.cancelled() != asio::cancellation_type::none)
        throw error(asio::error::operation_aborted);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
