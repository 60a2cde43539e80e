#ifndef OVERMOUNT_IO_STREAM_FEED_HPP
#define OVERMOUNT_IO_STREAM_FEED_HPP

#include <overmount/io/byte_stream.hpp>
#include <overmount/runtime/ring.hpp>
#include <overmount/runtime/semaphore.hpp>
#include <overmount/runtime/step.hpp>

#include <algorithm>
#include <mutex>
#include <optional>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Bytes that a coroutine reads from a stream ahead of the step that wants them, in the memory of one ring.
class stream_feed
{
public:
    stream_feed() : free_(buffers), permits_(buffers) {}

    // Reads to the end of the stream; a failure reaches the reader behind the bytes before it. To run beside
    // the reader, in one group with it.
    OVERMOUNT_LAZY static asio::awaitable<void> run(std::shared_ptr<stream_feed> self, byte_stream from)
    {
        std::exception_ptr failure;
        std::optional<semaphore::permit> permit;
        std::size_t size = 0;
        try {
            for (std::size_t count = 1; count != 0;) {
                permit.emplace(co_await self->free_.acquire());
                const auto room = self->ring_.back();
                while (size < room.size() && (count = co_await from.read_some(room.subspan(size))) != 0)
                    size += count;
                self->hand_over(permit, size);
            }
        } catch (...) {
            failure = std::current_exception();
        }
        self->hand_over(permit, size);
        self->ring_.close(std::move(failure));
        self->wake();
    }

    // Whom to notify when there is more.
    OVERMOUNT_LAZY void set_reader(std::weak_ptr<step> reader)
    {
        const std::lock_guard guard(mutex_);
        reader_ = std::move(reader);
    }

    // The reader: the bytes at hand, none at the end of the stream; nothing where it has to wait.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::span<const std::byte>> front() const
    {
        const auto bytes = ring_.front();
        if (bytes.empty() && !ring_.finished())
            return std::nullopt;
        return bytes.empty() ? bytes : bytes.subspan(taken_);
    }
    OVERMOUNT_LAZY void consume(std::size_t count) noexcept
    {
        taken_ += count;
        if (count == 0 || taken_ < ring_.front().size())
            return;
        taken_ = 0;
        auto permit = std::exchange(permits_[popped_++ % buffers], std::nullopt);
        ring_.pop();
    }
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into)
    {
        const auto bytes = front();
        if (!bytes)
            return std::nullopt;
        const std::size_t count = std::min(bytes->size(), into.size());
        std::copy_n(bytes->begin(), count, into.begin());
        consume(count);
        return count;
    }

private:
    // The filled part of a buffer, if there is any.
    OVERMOUNT_LAZY void hand_over(std::optional<semaphore::permit>& permit, std::size_t& size)
    {
        if (size == 0)
            return;
        permits_[pushed_++ % buffers] = std::exchange(permit, std::nullopt);
        ring_.push(std::exchange(size, 0));
        wake();
    }
    OVERMOUNT_LAZY void wake()
    {
        std::shared_ptr<step> reader;
        {
            const std::lock_guard guard(mutex_);
            reader = reader_.lock();
        }
        if (reader)
            reader->notify();
    }

    static constexpr unsigned buffers = 4;
    ring ring_{1, buffers};
    semaphore free_;
    std::vector<std::optional<semaphore::permit>>
        permits_; // each belongs to a filled buffer, as the ring hands it over
    std::size_t pushed_ = 0, popped_ = 0, taken_ = 0;
    std::mutex mutex_;
    std::weak_ptr<step> reader_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
