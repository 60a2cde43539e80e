#ifndef OVERMOUNT_IO_ASSET_STREAM_HPP
#define OVERMOUNT_IO_ASSET_STREAM_HPP

#include <overmount/core/handle.hpp>
#include <overmount/runtime/asio.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

class asset_stream;

namespace detail {

// Performs one read and calls `done` on the stream's executor.
OVERMOUNT_LAZY void start_read(asset_stream from, asio::mutable_buffer into, asio::cancellation_slot slot,
                               std::function<void(boost::system::error_code, std::size_t)> done);

} // namespace detail

/// A stream whose bytes are read on a repository's worker pool: by a coroutine with `read_some`, or by any Asio operation that takes
/// an AsyncReadStream, such as `asio::async_read`. Copies share the read position. Every member of an empty stream throws
/// `invalid_handle` when it is called.
///
/// *Lifetimes*: like a socket, a stream must not outlive the execution context of the operation that returned it.
class asset_stream
{
public:
    using executor_type = asio::any_io_executor;

    /// Provides the bytes. It is only called on worker threads.
    class source
    {
    public:
        virtual ~source() = default;
        /// Returns the number of bytes read, at least one, or 0 at the end.
        virtual std::size_t read(std::span<std::byte> into) = 0;
    };

    /// Constructs an empty stream. A moved-from stream is empty as well.
    asset_stream() = default;
    /// \param executor the default executor of handlers
    asset_stream(std::shared_ptr<source> from, worker_pool pool, executor_type executor, std::uint64_t size)
        : source_(std::move(from)), pool_(std::move(pool)), executor_(std::move(executor)), size_(size)
    {
    }
    /// Whether the handle is not empty.
    [[nodiscard]] explicit operator bool() const noexcept { return source_ != nullptr; }

    /// The total number of bytes.
    [[nodiscard]] std::uint64_t size() const
    {
        static_cast<void>(detail::valid(source_));
        return size_;
    }
    /// The executor of the operation that returned the stream.
    [[nodiscard]] executor_type get_executor() const
    {
        static_cast<void>(detail::valid(source_));
        return executor_;
    }

    /// Reads at least one byte.
    ///
    /// \param into must stay valid until the operation completes
    ///
    /// *Returns*: the number of bytes read, at least one; 0 at the end. *Errors*: those of the storage.
    /// *Cancellation*: any type; bytes that were already read may be lost. *Concurrency*: one read at a time.
    OVERMOUNT_LAZY [[nodiscard]] asio::awaitable<std::size_t> read_some(std::span<std::byte> into) const;

    /// Like `read_some`, with a completion token for `void(error_code, std::size_t)`.
    ///
    /// \param buffers the first buffer that is not empty is filled; if all are empty, the operation reads nothing
    /// *Errors*: `asio::error::eof` at the end; only the codes of the storage's errors. *Cancellation*: terminal; bytes that were
    /// already read may be lost.
    template <class MutableBufferSequence, class Token>
    auto async_read_some(const MutableBufferSequence& buffers, Token&& token) const
    {
        static_cast<void>(detail::valid(source_));
        return asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(initiation(), token, *this,
                                                                                         first_of(buffers));
    }

private:
    // Type-erases the handler at once: one coroutine serves all handler types.
    struct initiation
    {
        template <class Handler>
        void operator()(Handler handler, asset_stream from, asio::mutable_buffer into) const
        {
            auto executor = asio::get_associated_executor(handler, from.executor_);
            auto slot = asio::get_associated_cancellation_slot(handler);
            auto caller = std::make_shared<waiting<Handler>>(std::move(handler), executor);
            detail::start_read(std::move(from), into, std::move(slot),
                               [caller = std::move(caller)](boost::system::error_code failure, std::size_t count) {
                                   waiting<Handler>::resume(caller, failure, count);
                               });
        }
    };
    template <class Handler>
    struct waiting
    {
        using executor = asio::associated_executor_t<Handler, executor_type>;
        waiting(Handler&& resumed, const executor& on) : handler(std::move(resumed)), work(on) {}
        // Posts the handler, which must not run inside of the initiating function.
        static void resume(std::shared_ptr<waiting> self, boost::system::error_code failure, std::size_t count)
        {
            const executor on = self->work.get_executor();
            asio::post(on, [self = std::move(self), failure, count]() mutable {
                Handler called = std::move(self->handler);
                self.reset();
                std::move(called)(failure, count);
            });
        }
        Handler handler;
        asio::executor_work_guard<executor> work;
    };
    template <class MutableBufferSequence>
    static asio::mutable_buffer first_of(const MutableBufferSequence& buffers)
    {
        for (auto one = asio::buffer_sequence_begin(buffers); one != asio::buffer_sequence_end(buffers); ++one)
            if (const asio::mutable_buffer buffer(*one); buffer.size() != 0)
                return buffer;
        return {};
    }

    std::shared_ptr<source> source_;
    std::optional<worker_pool> pool_;
    executor_type executor_;
    std::uint64_t size_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/io/impl/asset_stream.ipp>
#endif

#endif
