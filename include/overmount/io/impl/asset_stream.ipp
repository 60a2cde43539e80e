#ifndef OVERMOUNT_IO_IMPL_ASSET_STREAM_IPP
#define OVERMOUNT_IO_IMPL_ASSET_STREAM_IPP

#include <overmount/io/asset_stream.hpp>
#include <overmount/runtime/run_on.hpp>

namespace overmount::inline OVERMOUNT_ABI {

namespace detail {

// Inline, as the type of its lambda must have linkage.
OVERMOUNT_LAZY inline asio::awaitable<std::size_t> read_on(worker_pool pool, std::shared_ptr<asset_stream::source> from,
                                                           std::span<std::byte> into)
{
    auto work = [from = std::move(from), into](const stop_flag&) { return from->read(into); };
    return run_on(std::move(pool), std::move(work));
}

} // namespace detail

OVERMOUNT_LAZY_BODY asio::awaitable<std::size_t> asset_stream::read_some(std::span<std::byte> into) const
{
    return detail::read_on(pool_, source_, into);
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
