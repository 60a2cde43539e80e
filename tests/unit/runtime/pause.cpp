#include <overmount/runtime/pause.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/this_coro.hpp>

#include <optional>

namespace asio = boost::asio;
using overmount::detail::pause;

namespace {

asio::awaitable<void> pause_for_ever()
{
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    co_await pause(std::chrono::hours(10000));
}

// Also if the coroutine continues after a cancellation.
asio::awaitable<void> pause_though_cancelled()
{
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    co_await asio::this_coro::throw_if_cancelled(false);
    try {
        co_await pause(std::chrono::hours(10000));
    } catch (const overmount::error&) {
    }
    co_await pause(std::chrono::hours(10000));
}

// The code of the `overmount::error` that ended the coroutine.
std::optional<boost::system::error_code> cancelled(asio::awaitable<void> task, asio::cancellation_type type)
{
    asio::io_context context;
    asio::cancellation_signal signal;
    std::optional<boost::system::error_code> code;
    asio::co_spawn(context, std::move(task), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr why) {
                       try {
                           if (why)
                               std::rethrow_exception(why);
                       } catch (const overmount::error& failure) {
                           code = failure.code();
                       }
                   }));
    context.poll();
    REQUIRE_FALSE(code);
    signal.emit(type);
    context.run_for(std::chrono::seconds(60));
    return code;
}

} // namespace

TEST_CASE("a pause ends by itself")
{
    REQUIRE_NOTHROW(::test::run_coroutine(pause(std::chrono::milliseconds(1))));
}

TEST_CASE("a pause that is cancelled throws an error of the library")
{
    for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                            asio::cancellation_type::total})
        CHECK(cancelled(pause_for_ever(), type) == asio::error::operation_aborted);
    CHECK(cancelled(pause_though_cancelled(), asio::cancellation_type::terminal) == asio::error::operation_aborted);
}
