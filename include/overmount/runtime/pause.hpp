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

namespace overmount::inline OVERMOUNT_ABI::detail {

// Waits on a timer; cancelled, it throws `operation_aborted` as every operation does.
OVERMOUNT_LAZY [[nodiscard]] inline asio::awaitable<void> pause(std::chrono::steady_clock::duration time)
{
    asio::steady_timer timer(co_await asio::this_coro::executor, time);
    const auto state = co_await asio::this_coro::cancellation_state;
    boost::system::error_code failure;
    if (state.cancelled() == asio::cancellation_type::none) // also where throw_if_cancelled is off
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, failure));
    if (failure || state.cancelled() != asio::cancellation_type::none)
        throw error(asio::error::operation_aborted);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
