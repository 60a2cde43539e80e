#ifndef OVERMOUNT_IO_IMPL_ASSET_STREAM_IPP
#define OVERMOUNT_IO_IMPL_ASSET_STREAM_IPP

#include <overmount/io/asset_stream.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/task_group.hpp>

#include <boost/asio/error.hpp>

#include <exception>
#include <new>

namespace overmount::OVERMOUNT_ABI {

namespace detail {

// Inline, because the type of its lambda must have linkage.
OVERMOUNT_LAZY inline asio::awaitable<std::size_t> read_on(worker_pool pool, std::shared_ptr<asset_stream::source> from,
                                                           std::span<std::byte> into)
{
    auto work = [from = std::move(from), into](const stop_flag&) { return from->read(into); };
    return run_on(std::move(pool), std::move(work));
}

OVERMOUNT_LAZY inline asio::awaitable<void> read_into(asset_stream from, asio::mutable_buffer into,
                                                      std::shared_ptr<std::size_t> count)
{
    if (into.size() == 0)
        co_return;
    const std::span room(static_cast<std::byte*>(into.data()), into.size());
    *count = co_await from.read_some(room);
    if (*count == 0)
        throw error(asio::error::eof);
}

OVERMOUNT_LAZY inline boost::system::error_code code_of(const std::exception_ptr& failure)
{
    try {
        if (failure)
            std::rethrow_exception(failure);
    } catch (const boost::system::system_error& known) {
        return known.code();
    } catch (const std::bad_alloc&) {
        return make_error_code(boost::system::errc::not_enough_memory);
    } catch (...) { // thrown by a user-defined source
        return make_error_code(boost::system::errc::io_error);
    }
    return {};
}

OVERMOUNT_LAZY_BODY void start_read(asset_stream from, asio::mutable_buffer into, asio::cancellation_slot slot,
                                    std::function<void(boost::system::error_code, std::size_t)> done)
{
    const asio::any_io_executor executor = from.get_executor();
    auto count = new_shared<std::size_t>(0U);
    auto ended = [count, done = std::move(done)](const std::exception_ptr& failure) { done(code_of(failure), *count); };
    task_group::spawn(executor, read_into(std::move(from), into, std::move(count)), slot, std::move(ended));
}

} // namespace detail

OVERMOUNT_LAZY_BODY asio::awaitable<std::size_t> asset_stream::read_some(std::span<std::byte> into) const
{
    const auto& from = detail::valid(source_);
    return detail::read_on(*pool_, from, into);
}

} // namespace overmount::OVERMOUNT_ABI

#endif
