#ifndef OVERMOUNT_IO_ASSET_STREAM_HPP
#define OVERMOUNT_IO_ASSET_STREAM_HPP

#include <overmount/runtime/asio.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

/// Bytes that are read on a repository's pool. Copies share the place at which they are.
class asset_stream
{
public:
    /// Gives the bytes; only called on workers.
    class source
    {
    public:
        virtual ~source() = default;
        /// At least one byte; 0 at the end.
        virtual std::size_t read(std::span<std::byte> into) = 0;
    };

    asset_stream(std::shared_ptr<source> from, worker_pool pool, std::uint64_t size)
        : source_(std::move(from)), pool_(std::move(pool)), size_(size)
    {
    }

    /// How many bytes there are in all.
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    /// \param into is the caller's until the operation completes; one read at a time
    ///
    /// *Returns*: the number of bytes read, at least one; 0 at the end. *Errors*: those of the storage.
    /// *Cancellation*: any; bytes may then be lost.
    OVERMOUNT_LAZY [[nodiscard]] asio::awaitable<std::size_t> read_some(std::span<std::byte> into) const;

private:
    std::shared_ptr<source> source_;
    worker_pool pool_;
    std::uint64_t size_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/io/impl/asset_stream.ipp>
#endif

#endif
