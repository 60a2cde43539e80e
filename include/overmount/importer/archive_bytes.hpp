#ifndef OVERMOUNT_IMPORTER_ARCHIVE_BYTES_HPP
#define OVERMOUNT_IMPORTER_ARCHIVE_BYTES_HPP

#include <overmount/io/stream_feed.hpp>
#include <overmount/posix/file_range.hpp>
#include <overmount/runtime/step.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The bytes of an archive, read once from beginning to end by a step. Never blocks for input.
class archive_bytes
{
public:
    virtual ~archive_bytes() = default;
    archive_bytes(const archive_bytes&) = delete;
    archive_bytes& operator=(const archive_bytes&) = delete;

    // The bytes available now, empty at the end; nullopt if the step has to wait for more.
    [[nodiscard]] virtual std::optional<std::span<const std::byte>> front() = 0;
    virtual void consume(std::size_t count) = 0;
    // Sets the step to notify when more bytes arrive. Only needed by archives that can lack bytes.
    virtual void set_reader(const std::weak_ptr<step>&) {}

protected:
    archive_bytes() = default;
};

// An archive in a file.
class file_source final : public archive_bytes
{
public:
    explicit file_source(file_range bytes) : bytes_(std::move(bytes)) {}
    [[nodiscard]] std::optional<std::span<const std::byte>> front() override
    {
        if (front_.empty()) {
            const std::size_t count = bytes_.read(position_, {buffer_.get(), size});
            position_ += count;
            front_ = {buffer_.get(), count};
        }
        return front_;
    }
    void consume(std::size_t count) noexcept override { front_ = front_.subspan(count); }

private:
    static constexpr std::size_t size = 256 << 10;
    file_range bytes_;
    std::uint64_t position_ = 0;
    std::unique_ptr<std::byte[]> buffer_ = std::make_unique_for_overwrite<std::byte[]>(size);
    std::span<const std::byte> front_;
};

// An archive that a coroutine reads from a stream into a feed.
class stream_source final : public archive_bytes
{
public:
    explicit stream_source(std::shared_ptr<stream_feed> feed) : feed_(std::move(feed)) {}
    [[nodiscard]] std::optional<std::span<const std::byte>> front() override { return feed_->front(); }
    void consume(std::size_t count) noexcept override { feed_->consume(count); }
    void set_reader(const std::weak_ptr<step>& reader) override { feed_->set_reader(reader); }

private:
    std::shared_ptr<stream_feed> feed_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
