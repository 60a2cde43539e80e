#ifndef OVERMOUNT_UNPACK_STREAM_INPUT_HPP
#define OVERMOUNT_UNPACK_STREAM_INPUT_HPP

#include <overmount/core/error.hpp>
#include <overmount/io/stream_feed.hpp>
#include <overmount/unpack/layer_input.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The bytes of a blob that a coroutine reads from a stream. Checks the size of the blob, if it is known.
class stream_input final : public layer_input
{
public:
    // If the size is not known, reads at most `most` bytes.
    stream_input(std::shared_ptr<stream_feed> feed, std::optional<std::uint64_t> size, std::uint64_t most)
        : feed_(std::move(feed)), size_(size), most_(size.value_or(most))
    {}
    void set_reader(const std::weak_ptr<step>& reader) override { feed_->set_reader(reader); }
    [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) override
    {
        const auto count = feed_->read(into);
        read_ += count.value_or(0);
        if (read_ > most_ && size_)
            throw error(errc::size_mismatch).at(stage::source).detail("the stream has more bytes than announced");
        if (read_ > most_)
            throw error(errc::layer_too_large).at(stage::source);
        if (size_ && count && *count == 0 && read_ != *size_)
            throw error(errc::truncated_stream).at(stage::source);
        return count;
    }

private:
    std::shared_ptr<stream_feed> feed_;
    std::optional<std::uint64_t> size_;
    std::uint64_t most_, read_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
