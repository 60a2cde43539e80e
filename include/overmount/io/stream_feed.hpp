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

namespace overmount::OVERMOUNT_ABI::detail {

// A coroutine that reads ahead from a stream into a ring, for a step on a worker. The ring bounds the memory.
class stream_feed
{
public:
    stream_feed() : free_buffers_(buffers), permits_(buffers) {}

    // Reads to the end of the stream. The reader gets a failure after all bytes that preceded it. Run it concurrently with the
    // reader, in the same task group.
    OVERMOUNT_LAZY static asio::awaitable<void> run(std::shared_ptr<stream_feed> self, byte_stream from)
    {
        std::exception_ptr failure;
        std::optional<semaphore::permit> permit;
        std::size_t size = 0;
        try {
            for (std::size_t count = 1; count != 0;) {
                permit.emplace(co_await self->free_buffers_.acquire());
                const auto room = self->ring_.back();
                while (size < room.size()) {
                    count = co_await from.read_some(room.subspan(size));
                    if (count == 0)
                        break;
                    size += count;
                }
                self->hand_over(permit, size);
            }
        } catch (...) {
            failure = std::current_exception();
        }
        self->hand_over(permit, size);
        self->ring_.close(std::move(failure));
        self->notify_reader();
    }

    // Sets the step to notify when more bytes are available.
    OVERMOUNT_LAZY void set_reader(std::weak_ptr<step> reader)
    {
        const std::lock_guard guard(mutex_);
        reader_ = std::move(reader);
    }

    // Reader: returns the available bytes, which are empty at the end of the stream; nullopt if the reader must wait.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::span<const std::byte>> front() const
    {
        const auto bytes = ring_.front();
        if (bytes.empty() && !ring_.finished())
            return std::nullopt;
        return bytes.empty() ? bytes : bytes.subspan(consumed_);
    }
    OVERMOUNT_LAZY void consume(std::size_t count) noexcept
    {
        consumed_ += count;
        if (count == 0 || consumed_ < ring_.front().size())
            return;
        consumed_ = 0;
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
    // Passes the filled part of the current buffer to the reader, unless it is empty.
    OVERMOUNT_LAZY void hand_over(std::optional<semaphore::permit>& permit, std::size_t& size)
    {
        if (size == 0)
            return;
        permits_[pushed_++ % buffers] = std::exchange(permit, std::nullopt);
        ring_.push(std::exchange(size, 0));
        notify_reader();
    }
    OVERMOUNT_LAZY void notify_reader()
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
    semaphore free_buffers_;
    std::vector<std::optional<semaphore::permit>>
        permits_; // one for each filled buffer; passed to the reader together with it
    std::size_t pushed_ = 0, popped_ = 0, consumed_ = 0;
    std::mutex mutex_;
    std::weak_ptr<step> reader_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
