#ifndef OVERMOUNT_IMPORTER_IMPL_ARCHIVE_READER_IPP
#define OVERMOUNT_IMPORTER_IMPL_ARCHIVE_READER_IPP

#include <overmount/importer/archive_reader.hpp>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY archive_reader::found archive_reader::next()
{
    data_ = {};
    head_.clear();
    head_given_ = 0;
    member_ended_ = false;
    if (unframed_.empty())
        if (const auto state = fill(); state != found::member)
            return state;
    for (;;) {
        switch (frames_.next(unframed_)) {
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

OVERMOUNT_LAZY_BODY std::optional<std::span<const std::byte>> archive_reader::head()
{
    while (head_.size() < tar::block_size && !member_ended_) {
        std::byte piece[tar::block_size];
        const auto count = read_data(std::span(piece).first(tar::block_size - head_.size()));
        if (!count)
            return std::nullopt;
        head_.insert(head_.end(), piece, piece + *count);
    }
    return head_;
}

OVERMOUNT_LAZY_BODY std::optional<std::size_t> archive_reader::read(std::span<std::byte> into)
{
    if (head_given_ < head_.size()) {
        const std::size_t count = std::min(head_.size() - head_given_, into.size());
        std::copy_n(head_.begin() + static_cast<std::ptrdiff_t>(head_given_), count, into.begin());
        head_given_ += count;
        return count;
    }
    return read_data(into);
}

OVERMOUNT_LAZY_BODY std::optional<std::size_t> archive_reader::read_data(std::span<std::byte> into)
{
    while (data_.empty() && !member_ended_) {
        if (unframed_.empty()) {
            const auto state = fill();
            if (state == found::wait)
                return std::nullopt;
            if (state == found::end)
                throw error(errc::truncated_stream).at(stage::source);
        }
        switch (frames_.next(unframed_)) {
        case tar::event::data:
            data_ = frames_.data();
            break;
        case tar::event::entry_end:
            member_ended_ = true;
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

OVERMOUNT_LAZY_BODY archive_reader::found archive_reader::fill()
{
    source_->consume(std::exchange(lent_, 0));
    for (;;) {
        const auto bytes = source_->front();
        if (!bytes && !decoder_has_more_)
            return found::wait;
        if (!decoder_)
            decoder_.emplace(detect_compression(*bytes), bounds_);
        if (bytes && bytes->empty() && !decoder_has_more_) {
            decoder_->finish();
            frames_.finish();
            return found::end;
        }
        if (decoder_->passthrough()) {
            unframed_ = *bytes;
            lent_ = unframed_.size();
            return found::member;
        }
        if (!decoded_)
            decoded_ = std::make_unique_for_overwrite<std::byte[]>(decoded_size);
        const std::span<std::byte> room(decoded_.get(), decoded_size);
        const decode_result decoded = decoder_->step(bytes.value_or(std::span<const std::byte>()), room);
        source_->consume(decoded.consumed);
        decoder_has_more_ = decoded.produced == room.size();
        if (decoded.produced != 0) {
            unframed_ = room.first(decoded.produced);
            return found::member;
        }
    }
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
