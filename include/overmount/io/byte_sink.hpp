#ifndef OVERMOUNT_IO_BYTE_SINK_HPP
#define OVERMOUNT_IO_BYTE_SINK_HPP

#include <overmount/core/error.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// An AsyncWriteStream of Boost.Asio: a pipe, a socket, a TLS stream.
template <class Stream>
concept async_write_stream =
    std::movable<Stream> && requires(Stream& stream, boost::asio::const_buffer buffer,
                                     void (*done)(boost::system::error_code, std::size_t)) {
        stream.get_executor();
        stream.async_write_some(buffer, done);
    };

/// A type-erased destination of bytes: code that writes to it is compiled once. Copies share the destination.
class byte_sink
{
public:
    /// \param stream is written on its own executor, by one operation at a time. Writing to a pipe without a reader fails with EPIPE
    ///        only if the program ignores SIGPIPE.
    template <class Stream>
        requires(!std::same_as<Stream, byte_sink>) && async_write_stream<Stream>
    explicit byte_sink(Stream stream) : target_(detail::new_shared<model<Stream>>(std::move(stream)))
    {
    }
    /// \param file is written on worker threads: a descriptor of a regular file, or of a device that does not block for long
    OVERMOUNT_LAZY explicit byte_sink(unique_fd file);

    /// Writes all bytes. *Errors*: those of the stream, errno values; stage target. *Cancellation*: the types that the stream supports.
    OVERMOUNT_LAZY [[nodiscard]] boost::asio::awaitable<void> write(worker_pool pool, std::span<const std::byte> bytes) const
    {
        return target_->write(target_, std::move(pool), boost::asio::buffer(bytes.data(), bytes.size()));
    }

private:
    struct target
    {
        virtual ~target() = default;
        virtual boost::asio::awaitable<void> write(std::shared_ptr<target> self, worker_pool pool,
                                                   boost::asio::const_buffer bytes) = 0;
    };
    template <class Stream>
    struct model final : target
    {
        explicit model(Stream value) : stream(std::move(value)) {}
        boost::asio::awaitable<void> write(std::shared_ptr<target> self, worker_pool,
                                           boost::asio::const_buffer bytes) override
        {
            return write_all(std::static_pointer_cast<model>(std::move(self)), bytes);
        }
        static boost::asio::awaitable<void> write_all(std::shared_ptr<model> self, boost::asio::const_buffer bytes)
        {
            boost::system::error_code ended;
            co_await boost::asio::async_write(self->stream, bytes,
                                              boost::asio::redirect_error(boost::asio::use_awaitable, ended));
            if (ended)
                throw error(ended).at(stage::target).operation("write");
        }
        Stream stream;
    };
    template <class File>
    class file_target;
    std::shared_ptr<target> target_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/io/impl/byte_sink.ipp>
#endif

#endif
