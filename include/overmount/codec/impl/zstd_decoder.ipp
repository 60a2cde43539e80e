#ifndef OVERMOUNT_CODEC_IMPL_ZSTD_DECODER_IPP
#define OVERMOUNT_CODEC_IMPL_ZSTD_DECODER_IPP

#include <overmount/codec/zstd_decoder.hpp>

#include <zstd.h>
#include <zstd_errors.h>

#include <bit>
#include <new>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL bool begins_zstd(std::span<const std::byte> head) noexcept
{
    static constexpr unsigned char frame[] = {0x28, 0xb5, 0x2f, 0xfd}, skippable[] = {0x50, 0x2a, 0x4d, 0x18};
    bool is_frame = true, is_skippable = true;
    for (std::size_t i = 0; i < std::min<std::size_t>(head.size(), 4); ++i) {
        const auto byte = std::to_integer<unsigned char>(head[i]);
        is_frame = is_frame && byte == frame[i];
        is_skippable = is_skippable && (i == 0 ? byte & 0xf0 : byte) == skippable[i];
    }
    return is_frame || is_skippable;
}

// The layout of a frame header. See RFC 8878, section 3.1.1.1.
struct zstd_frame_header
{
    std::size_t size = 0; // of the header, including the magic number
    bool single_segment = false;
    std::size_t content_size_at = 0, content_size_bytes = 0;
};

// Computes the layout from the frame header descriptor, the fifth byte.
inline zstd_frame_header read_zstd_descriptor(std::byte descriptor) noexcept
{
    static constexpr std::uint8_t dictionary_bytes[] = {0, 1, 2, 4}, content_bytes[] = {0, 2, 4, 8};
    const auto flags = std::to_integer<unsigned>(descriptor);
    zstd_frame_header out;
    out.single_segment = (flags & 0x20) != 0;
    out.content_size_bytes = content_bytes[flags >> 6];
    if (out.content_size_bytes == 0 && out.single_segment)
        out.content_size_bytes = 1;
    out.content_size_at = 5u + (out.single_segment ? 0u : 1u) + dictionary_bytes[flags & 3];
    out.size = out.content_size_at + out.content_size_bytes;
    return out;
}

// Returns the window size from a complete header.
inline std::uint64_t zstd_window_of(std::span<const std::byte> head) noexcept
{
    const auto header = read_zstd_descriptor(head[4]);
    if (!header.single_segment) {
        const auto descriptor = std::to_integer<unsigned>(head[5]);
        const std::uint64_t base = std::uint64_t{1} << (10 + (descriptor >> 3));
        return base + base / 8 * (descriptor & 7);
    }
    std::uint64_t size = header.content_size_bytes == 2 ? 256 : 0;
    for (std::size_t i = 0; i < header.content_size_bytes; ++i)
        size += std::to_integer<std::uint64_t>(head[header.content_size_at + i]) << (8 * i);
    return size;
}

[[noreturn]] inline void throw_zstd(std::size_t code)
{
    const std::string words = std::string("zstd: ") + ::ZSTD_getErrorName(code);
    switch (::ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation:
        throw std::bad_alloc();
    case ZSTD_error_dictionary_wrong:
    case ZSTD_error_frameParameter_windowTooLarge:
    case ZSTD_error_frameParameter_unsupported:
        throw decode_error(errc::unsupported_compression, words);
    default:
        throw decode_error(errc::corrupt_stream, words);
    }
}

OVERMOUNT_DECL void zstd_decoder::release::operator()(ZSTD_DCtx_s* context) const noexcept
{
    ::ZSTD_freeDCtx(context);
}

OVERMOUNT_DECL zstd_decoder::zstd_decoder(std::uint64_t window)
    : window_(window), context_(::ZSTD_createDCtx())
{
    if (!context_)
        throw std::bad_alloc();
    // We check the limit ourselves, exact to the byte; libzstd's own limit must not be lower.
    const auto range = ::ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
    // Not std::bit_width: its return type differs between standard libraries.
    const int log = std::clamp(64 - std::countl_zero(window_), range.lowerBound, range.upperBound);
    if (const auto code = ::ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, log);
        ZSTD_isError(code))
        throw_zstd(code);
}

OVERMOUNT_DECL void zstd_decoder::add_to_head(std::byte byte)
{
    head_[head_size_++] = byte;
    const auto head = std::span<const std::byte>(head_).first(head_size_);
    if (!begins_zstd(head))
        throw decode_error(errc::corrupt_stream,
                           place_ == place::between ? "trailing garbage" : "not a zstd frame");
    if (head_size_ < 4)
        return;
    // A skippable frame needs no check beyond its magic number.
    if (const bool skippable = head[0] != std::byte{0x28}; !skippable) {
        if (head_size_ < 5 || head_size_ < read_zstd_descriptor(head[4]).size)
            return;
        if (const auto window = zstd_window_of(head); window > window_)
            throw decode_error(errc::unsupported_compression, "a zstd window of " + std::to_string(window) +
                                                                  " bytes is above the limit of " +
                                                                  std::to_string(window_));
    }
    ZSTD_inBuffer in{head.data(), head.size(), 0};
    ZSTD_outBuffer out{nullptr, 0, 0};
    if (const auto code = ::ZSTD_decompressStream(context_.get(), &out, &in); ZSTD_isError(code))
        throw_zstd(code);
    head_size_ = 0;
    place_ = place::inside;
}

OVERMOUNT_DECL decode_result zstd_decoder::step(std::span<const std::byte> input, std::span<std::byte> output)
{
    decode_result done;
    while (done.produced < output.size() && (done.consumed < input.size() || more_)) {
        // Feed frame headers separately, so that libzstd never gets two frames or a whole frame at once: it would then decode in one
        // pass, and whether it accepts a window would depend on how the stream is split.
        if (place_ != place::inside) {
            add_to_head(input[done.consumed++]);
            continue;
        }
        ZSTD_inBuffer in{input.data(), input.size(), done.consumed};
        ZSTD_outBuffer out{output.data(), output.size(), done.produced};
        const auto code = ::ZSTD_decompressStream(context_.get(), &out, &in);
        if (ZSTD_isError(code))
            throw_zstd(code);
        done.consumed = in.pos;
        done.produced = out.pos;
        more_ = code != 0 && out.pos == out.size;
        if (code == 0)
            place_ = place::between;
    }
    return done;
}

OVERMOUNT_DECL void zstd_decoder::finish() const
{
    if (place_ != place::between || head_size_ != 0)
        throw decode_error(errc::truncated_stream, "zstd");
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
