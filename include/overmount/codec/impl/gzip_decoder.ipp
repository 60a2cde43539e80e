#ifndef OVERMOUNT_CODEC_IMPL_GZIP_DECODER_IPP
#define OVERMOUNT_CODEC_IMPL_GZIP_DECODER_IPP

#include <overmount/codec/gzip_decoder.hpp>

#ifdef OVERMOUNT_WITH_ISAL
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#endif

#include <new>

namespace overmount::OVERMOUNT_ABI::detail {

#ifdef OVERMOUNT_WITH_ISAL

OVERMOUNT_DECL void gzip_codec::release::operator()(inflate_state* state) const noexcept
{
    delete state;
}

OVERMOUNT_DECL gzip_codec::gzip_codec() : state_(new inflate_state)
{
    ::isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP_NO_HDR_VER;
}

OVERMOUNT_DECL void gzip_codec::reset() noexcept
{
    ::isal_inflate_reset(state_.get());
    state_->crc_flag = ISAL_GZIP_NO_HDR_VER;
    not_first_ = true;
    field_ = field::fixed;
    field_offset_ = extra_size_ = header_crc_ = stored_crc_ = 0;
}

OVERMOUNT_DECL void gzip_codec::take_header_byte(std::byte byte)
{
    const auto value = std::to_integer<std::uint8_t>(byte);
    if (field_ != field::crc)
        header_crc_ = ::crc32_gzip_refl(header_crc_, &value, 1);
    const std::uint32_t at = field_offset_++;
    switch (field_) {
    case field::fixed:
        if ((at == 0 && value != 0x1f) || (at == 1 && value != 0x8b))
            throw decode_error(errc::corrupt_stream, not_first_ ? "trailing garbage" : "incorrect header check");
        if (at == 2 && value != 8)
            throw decode_error(errc::corrupt_stream, "unknown compression method");
        if (at == 3 && (value & 0xe0) != 0)
            throw decode_error(errc::corrupt_stream, "unknown header flags set");
        if (at == 3)
            flags_ = value;
        if (at == 9)
            next_field();
        return;
    case field::extra_size:
        extra_size_ |= std::uint32_t{value} << (8 * at);
        if (at == 1)
            next_field();
        return;
    case field::extra:
        if (at + 1 == extra_size_)
            next_field();
        return;
    case field::name:
    case field::comment:
        if (value == 0)
            next_field();
        return;
    case field::crc:
        stored_crc_ |= std::uint32_t{value} << (8 * at);
        if (at == 1 && stored_crc_ != (header_crc_ & 0xffff))
            throw decode_error(errc::corrupt_stream, "header crc mismatch");
        if (at == 1)
            next_field();
        return;
    case field::data:
        return;
    }
}

// Advances to the next field that the flags announce and that is not empty.
OVERMOUNT_DECL void gzip_codec::next_field()
{
    constexpr std::uint8_t has_crc = 2, has_extra = 4, has_name = 8, has_comment = 16;
    field_offset_ = 0;
    for (;;) {
        field_ = static_cast<field>(static_cast<unsigned char>(field_) + 1);
        switch (field_) {
        case field::extra_size:
            if ((flags_ & has_extra) != 0)
                return;
            break;
        case field::extra:
            if (extra_size_ != 0)
                return;
            break;
        case field::name:
            if ((flags_ & has_name) != 0)
                return;
            break;
        case field::comment:
            if ((flags_ & has_comment) != 0)
                return;
            break;
        case field::crc:
            if ((flags_ & has_crc) != 0)
                return;
            break;
        case field::fixed:
        case field::data:
            return;
        }
    }
}

OVERMOUNT_DECL codec_result gzip_codec::run(std::span<const std::byte> in, std::span<std::byte> out)
{
    std::size_t header = 0;
    while (field_ != field::data && header < in.size())
        take_header_byte(in[header++]);
    if (field_ != field::data)
        return {header, 0, false};
    in = in.subspan(header);
    inflate_state& state = *state_;
    // ISA-L does not write to its input; its type lacks the const.
    state.next_in = reinterpret_cast<std::uint8_t*>(const_cast<std::byte*>(in.data()));
    state.avail_in = static_cast<std::uint32_t>(in.size());
    state.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    state.avail_out = static_cast<std::uint32_t>(out.size());
    switch (::isal_inflate(&state)) {
    case ISAL_DECOMP_OK:
    case ISAL_END_INPUT:
    case ISAL_OUT_OVERFLOW:
        break;
    case ISAL_INCORRECT_CHECKSUM:
        throw decode_error(errc::corrupt_stream, "incorrect data check");
    case ISAL_INVALID_BLOCK:
        throw decode_error(errc::corrupt_stream, "invalid block");
    default:
        throw decode_error(errc::corrupt_stream, "invalid code");
    }
    return {header + in.size() - state.avail_in, out.size() - state.avail_out,
            state.block_state == ISAL_BLOCK_FINISH};
}

#else

OVERMOUNT_DECL void gzip_codec::release::operator()(z_stream_s* stream) const noexcept
{
    ::inflateEnd(stream);
    delete stream;
}

OVERMOUNT_DECL gzip_codec::gzip_codec()
{
    auto stream = std::make_unique<z_stream>();
    // 15: the largest window. +16: accept only gzip.
    if (::inflateInit2(stream.get(), 15 + 16) != Z_OK)
        throw std::bad_alloc();
    stream_.reset(stream.release());
}

OVERMOUNT_DECL void gzip_codec::reset() noexcept
{
    ::inflateReset(stream_.get());
    not_first_ = true;
}

OVERMOUNT_DECL codec_result gzip_codec::run(std::span<const std::byte> in, std::span<std::byte> out)
{
    z_stream& stream = *stream_;
    // zlib does not write to its input; its type lacks the const.
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int code = ::inflate(&stream, Z_NO_FLUSH);
    if (code == Z_MEM_ERROR)
        throw std::bad_alloc();
    if (code != Z_OK && code != Z_STREAM_END &&
        code != Z_BUF_ERROR) // Z_BUF_ERROR only means that no progress was possible
        throw decode_error(errc::corrupt_stream, not_first_ && stream.total_in <= 2 ? "trailing garbage"
                                                 : stream.msg != nullptr        ? stream.msg
                                                                                : "zlib reports damaged data");
    return {in.size() - stream.avail_in, out.size() - stream.avail_out, code == Z_STREAM_END};
}

#endif

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
