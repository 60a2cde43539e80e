#ifndef OVERMOUNT_IO_BYTE_STREAM_HPP
#define OVERMOUNT_IO_BYTE_STREAM_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/handle.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// An AsyncReadStream of Boost.Asio: a pipe, a socket, a TLS stream.
template <class Stream>
concept async_read_stream =
    std::movable<Stream> && requires(Stream& stream, boost::asio::mutable_buffer buffer,
                                     void (*done)(boost::system::error_code, std::size_t)) {
        stream.get_executor();
        stream.async_read_some(buffer, done);
    };

/// A source of bytes with a coroutine `read_some`. It writes at least one byte into `into` and returns the number of bytes, or
/// returns 0 at the end. One operation at a time calls it. The source stays alive until the returned awaitable has ended.
template <class Source>
concept awaitable_source = std::movable<Source> && requires(Source& source, std::span<std::byte> into) {
    { source.read_some(into) } -> std::same_as<boost::asio::awaitable<std::size_t>>;
};

/// A type-erased stream of bytes: code that reads from it is compiled once. Copies share the stream.
class byte_stream
{
public:
    /// Constructs an empty stream, whose `read_some` throws `invalid_handle` when it is called. A moved-from stream is empty as well.
    byte_stream() = default;
    [[nodiscard]] explicit operator bool() const noexcept { return source_ != nullptr; }

    /// \param from is read to its end, on the executor of the reading operation
    template <class Source>
        requires(!std::same_as<Source, byte_stream>) && awaitable_source<Source>
    explicit byte_stream(Source from) : source_(detail::new_shared<awaitable_model<Source>>(std::move(from)))
    {}

    /// \param stream is read to its end, on its own executor, by one operation at a time
    template <class Stream>
        requires(!std::same_as<Stream, byte_stream>) && async_read_stream<Stream> && (!awaitable_source<Stream>)
    explicit byte_stream(Stream stream) : source_(detail::new_shared<model<Stream>>(std::move(stream)))
    {}

    /// Reads at least one byte.
    ///
    /// *Returns*: the number of bytes read, at least one; 0 at the end. *Errors*: those of the stream, stage
    /// source. *Cancellation*: the types that the stream supports.
    OVERMOUNT_LAZY [[nodiscard]] boost::asio::awaitable<std::size_t> read_some(std::span<std::byte> into) const
    {
        return detail::valid(source_)->read_some(source_, boost::asio::buffer(into.data(), into.size()));
    }

private:
    struct source
    {
        virtual ~source() = default;
        virtual boost::asio::awaitable<std::size_t> read_some(std::shared_ptr<source> self,
                                                              boost::asio::mutable_buffer into) = 0;
    };
    template <class Source>
    struct awaitable_model final : source
    {
        explicit awaitable_model(Source value) : from(std::move(value)) {}
        boost::asio::awaitable<std::size_t> read_some(std::shared_ptr<source> self, boost::asio::mutable_buffer into) override
        {
            return read(std::static_pointer_cast<awaitable_model>(std::move(self)), into);
        }
        static boost::asio::awaitable<std::size_t> read(std::shared_ptr<awaitable_model> self, boost::asio::mutable_buffer into)
        {
            const std::span<std::byte> room(static_cast<std::byte*>(into.data()), into.size());
            boost::system::error_code failed;
            try {
                co_return co_await self->from.read_some(room);
            } catch (const error&) {
                throw;
            } catch (const boost::system::system_error& failure) {
                failed = failure.code();
            }
            if (failed != boost::asio::error::eof)
                throw error(failed).at(stage::source).operation("read");
            co_return 0;
        }
        Source from;
    };
    template <class Stream>
    struct model final : source
    {
        explicit model(Stream value) : stream(std::move(value)) {}
        boost::asio::awaitable<std::size_t> read_some(std::shared_ptr<source> self,
                                                      boost::asio::mutable_buffer into) override
        {
            return read(std::static_pointer_cast<model>(std::move(self)), into);
        }
        static boost::asio::awaitable<std::size_t> read(std::shared_ptr<model> self,
                                                        boost::asio::mutable_buffer into)
        {
            boost::system::error_code ended;
            const std::size_t count = co_await self->stream.async_read_some(
                into, boost::asio::redirect_error(boost::asio::use_awaitable, ended));
            if (ended && ended != boost::asio::error::eof)
                throw error(ended).at(stage::source).operation("read");
            co_return count;
        }
        Stream stream;
    };
    std::shared_ptr<source> source_;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
