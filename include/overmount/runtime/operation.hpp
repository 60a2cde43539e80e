#ifndef OVERMOUNT_RUNTIME_OPERATION_HPP
#define OVERMOUNT_RUNTIME_OPERATION_HPP

#include <overmount/core/error.hpp>
#include <overmount/runtime/asio.hpp>

#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The outermost coroutine of a public operation: every failure with an error code leaves it as `error`. Asio throws its own exception
// type if an operation is cancelled between two waits, and a user's stream throws what it likes.
template <class Result>
[[nodiscard]] asio::awaitable<Result> operation(asio::awaitable<Result> work)
{
    try {
        co_return co_await std::move(work);
    } catch (const error&) {
        throw;
    } catch (const boost::system::system_error& failure) {
        throw error(failure.code());
    }
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
