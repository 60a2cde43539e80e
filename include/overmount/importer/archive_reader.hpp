#ifndef OVERMOUNT_IMPORTER_ARCHIVE_READER_HPP
#define OVERMOUNT_IMPORTER_ARCHIVE_READER_HPP

#include <overmount/codec/decoder.hpp>
#include <overmount/tar/framing.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Reads an image archive that comes in pieces, compressed as a whole or not, member by member. For steps:
// what it lacks at the moment it says, and never waits.
//
// A source has `front`: the bytes at hand, none at the end, nothing where they have to be waited for; and
// `consume`.
template <class Source>
class archive_reader
{
public:
    enum class found
    {
        again, // call once more: a long way is cut in pieces
        wait,  // for the source
        member,
        end, // of the whole source
    };

    archive_reader(Source source, const limits& bounds)
        : source_(std::move(source)), bounds_(unbounded(bounds)), frames_(bounds_)
    {}

    [[nodiscard]] Source& source() noexcept { return source_; }

    // Goes to the next member; the rest of this one is left out.
    [[nodiscard]] found next()
    {
        data_ = {};
        head_.clear();
        head_given_ = 0;
        over_ = false;
        if (rest_.empty())
            if (const auto state = fill(); state != found::member)
                return state;
        for (;;) {
            switch (frames_.next(rest_)) {
            case tar::event::need_input:
                return found::again;
            case tar::event::entry:
                return found::member;
            case tar::event::data:
            case tar::event::entry_end:
            case tar::event::end:
                break;
            }
        }
    }
    [[nodiscard]] const tar::entry& entry() const noexcept { return frames_.entry(); }

    // The member's first 512 bytes, or all it has; `read` gives them again.
    [[nodiscard]] std::optional<std::span<const std::byte>> head()
    {
        while (head_.size() < tar::block_size && !over_) {
            std::byte piece[tar::block_size];
            const auto count = take(std::span(piece).first(tar::block_size - head_.size()));
            if (!count)
                return std::nullopt;
            head_.insert(head_.end(), piece, piece + *count);
        }
        return head_;
    }

    // The member's data, piece by piece: 0 at its end, nothing where it has to be waited for.
    [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into)
    {
        if (head_given_ < head_.size()) {
            const std::size_t count = std::min(head_.size() - head_given_, into.size());
            std::copy_n(head_.begin() + static_cast<std::ptrdiff_t>(head_given_), count, into.begin());
            head_given_ += count;
            return count;
        }
        return take(into);
    }

private:
    // An archive is as large as its layers, which have limits of their own.
    static limits unbounded(limits bounds)
    {
        bounds.layer_bytes = bounds.stream_bytes = ~std::uint64_t{0} >> 1;
        return bounds;
    }

    std::optional<std::size_t> take(std::span<std::byte> into)
    {
        while (data_.empty() && !over_) {
            if (rest_.empty()) {
                const auto state = fill();
                if (state == found::wait)
                    return std::nullopt;
                if (state == found::end)
                    throw error(errc::truncated_stream).at(stage::source);
            }
            switch (frames_.next(rest_)) {
            case tar::event::data:
                data_ = frames_.data();
                break;
            case tar::event::entry_end:
                over_ = true;
                break;
            case tar::event::need_input:
            case tar::event::entry:
            case tar::event::end:
                break;
            }
        }
        const std::size_t count = std::min(data_.size(), into.size());
        std::copy_n(data_.begin(), count, into.begin());
        data_ = data_.subspan(count);
        return count;
    }

    // Gets bytes of the archive into `rest_`: `member` when there are some.
    found fill()
    {
        source_.consume(std::exchange(lent_, 0));
        for (;;) {
            const auto bytes = source_.front();
            if (!bytes && !more_)
                return found::wait;
            if (!decoder_)
                decoder_.emplace(detect_compression(*bytes), bounds_);
            if (bytes && bytes->empty() && !more_) {
                decoder_->finish();
                frames_.finish();
                return found::end;
            }
            if (decoder_->passthrough()) {
                rest_ = *bytes;
                lent_ = rest_.size();
                return found::member;
            }
            if (!decoded_)
                decoded_ = std::make_unique_for_overwrite<std::byte[]>(decoded_size);
            const std::span<std::byte> room(decoded_.get(), decoded_size);
            const decode_result made = decoder_->step(bytes.value_or(std::span<const std::byte>()), room);
            source_.consume(made.consumed);
            more_ = made.produced == room.size();
            if (made.produced != 0) {
                rest_ = room.first(made.produced);
                return found::member;
            }
        }
    }

    static constexpr std::size_t decoded_size = 256 << 10;

    Source source_;
    limits bounds_;
    tar::framing frames_;
    std::optional<decoder> decoder_;
    std::unique_ptr<std::byte[]> decoded_;
    bool more_ = false;               // the decoder may have more without any input
    std::size_t lent_ = 0;            // bytes of the source's front that `rest_` began with
    std::span<const std::byte> rest_; // of the archive, not yet framed
    std::span<const std::byte> data_; // of the member, not yet read
    std::vector<std::byte> head_;
    std::size_t head_given_ = 0;
    bool over_ = false; // the member
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
