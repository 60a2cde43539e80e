#ifndef OVERMOUNT_IMPL_DECODER_IPP
#define OVERMOUNT_IMPL_DECODER_IPP

#include <overmount/error.hpp>
#include <overmount/unpack/decoder.hpp>

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <bit>
#include <new>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::detail {

inline error decode_error(errc code, std::string_view words)
{
    return error(code).at(stage::decode).detail(words);
}

// Whether up to four bytes begin a zstd frame, or a skippable one. Frames of zstd before 0.8, which the
// library might still read, do not count.
inline bool begins_zstd(std::span<const std::byte> head) noexcept
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

// The fields of a frame header, RFC 8878, section 3.1.1.1.
struct zstd_frame_header
{
    std::size_t size = 0; // of the header, magic included
    bool single_segment = false;
    std::size_t content_size_at = 0, content_size_bytes = 0;
};

// From the first five bytes.
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

// From a whole header.
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

OVERMOUNT_DECL compression detect_compression(std::span<const std::byte> head)
{
    const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
    if (text.starts_with("\x1f\x8b"))
        return compression::gzip;
    if (head.size() >= 4 && begins_zstd(head))
        return compression::zstd;
    if (text.starts_with(std::string_view("\xfd\x37zXZ\0", 6)))
        throw decode_error(errc::unsupported_compression, "xz");
    // The fifth byte begins the magic of a block, or of the end: a tar may well begin with a name like BZh9.
    if (text.size() >= 6 && text.starts_with("BZh") &&
        (text.substr(4, 2) == "\x31\x41" || text.substr(4, 2) == "\x17\x72"))
        throw decode_error(errc::unsupported_compression, "bzip2");
    if (text.starts_with("\x04\x22\x4d\x18") || text.starts_with("\x02\x21\x4c\x18"))
        throw decode_error(errc::unsupported_compression, "lz4");
    return compression::none;
}

OVERMOUNT_DECL void decoder::release::operator()(z_stream_s* stream) const noexcept
{
    ::inflateEnd(stream);
    delete stream;
}

OVERMOUNT_DECL void decoder::release::operator()(ZSTD_DCtx_s* context) const noexcept
{
    ::ZSTD_freeDCtx(context);
}

OVERMOUNT_DECL decoder::decoder(compression kind, const limits& bounds)
    : kind_(kind), ratio_(bounds.ratio), ratio_from_(bounds.ratio_from), window_(bounds.zstd_window)
{
    if (kind == compression::gzip) {
        auto stream = std::make_unique<z_stream>();
        // 15 bits of window, which is the largest; 16 more: gzip only.
        if (::inflateInit2(stream.get(), 15 + 16) != Z_OK)
            throw std::bad_alloc();
        gzip_.reset(stream.release());
    } else if (kind == compression::zstd) {
        zstd_.reset(::ZSTD_createDCtx());
        if (!zstd_)
            throw std::bad_alloc();
        // The limit is ours to check, to the byte; zstd's own must not be below it.
        const auto range = ::ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
        const int log =
            std::clamp(static_cast<int>(std::bit_width(window_)), range.lowerBound, range.upperBound);
        if (const auto code = ::ZSTD_DCtx_setParameter(zstd_.get(), ZSTD_d_windowLogMax, log);
            ZSTD_isError(code))
            throw_zstd(code);
    }
}

OVERMOUNT_DECL decoder::result decoder::step(std::span<const std::byte> input, std::span<std::byte> output)
{
    result done;
    switch (kind_) {
    case compression::none:
        done.consumed = done.produced = std::min(input.size(), output.size());
        std::copy_n(input.begin(), done.produced, output.begin());
        return done;
    case compression::gzip:
        step_gzip(input, output, done);
        break;
    case compression::zstd:
        step_zstd(input, output, done);
        break;
    }
    consumed_ += done.consumed;
    produced_ += done.produced;
    // Exactly produced > ratio * consumed, without the overflow. Nothing comes out before something went in.
    if (produced_ > ratio_from_ && (produced_ - 1) / consumed_ >= ratio_)
        throw decode_error(errc::compression_ratio_exceeded,
                           std::to_string(consumed_) + " bytes became " + std::to_string(produced_));
    return done;
}

OVERMOUNT_DECL void decoder::step_gzip(std::span<const std::byte> input, std::span<std::byte> output,
                                       result& done)
{
    static constexpr std::size_t piece = std::size_t{1} << 30; // zlib counts in 32 bits
    z_stream& stream = *gzip_;
    while (done.produced < output.size() && (done.consumed < input.size() || more_)) {
        const auto in = input.subspan(done.consumed);
        const auto out = output.subspan(done.produced);
        if (place_ == place::between) {
            if (in.front() != std::byte{0x1f})
                throw decode_error(errc::corrupt_stream, "trailing garbage");
            ::inflateReset(&stream);
        }
        place_ = place::inside;
        // zlib does not write to its input; its type lacks the const.
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
        const auto given = static_cast<uInt>(std::min(in.size(), piece));
        stream.avail_in = given;
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        const auto room = static_cast<uInt>(std::min(out.size(), piece));
        stream.avail_out = room;
        const int code = ::inflate(&stream, Z_NO_FLUSH);
        done.consumed += given - stream.avail_in;
        done.produced += room - stream.avail_out;
        more_ = stream.avail_out == 0;
        if (code == Z_STREAM_END) {
            place_ = place::between;
            more_ = false;
        } else if (code == Z_MEM_ERROR) {
            throw std::bad_alloc();
        } else if (code != Z_OK && code != Z_BUF_ERROR) { // the latter: nothing to do, which is no error
            const bool later_member = consumed_ + done.consumed != stream.total_in;
            throw decode_error(errc::corrupt_stream, later_member && stream.total_in <= 2 ? "trailing garbage"
                                                     : stream.msg != nullptr              ? stream.msg
                                                                                          : "zlib failed");
        }
    }
}

OVERMOUNT_DECL void decoder::add_to_head(std::byte byte)
{
    head_[head_size_++] = byte;
    const auto head = std::span<const std::byte>(head_).first(head_size_);
    if (!begins_zstd(head))
        throw decode_error(errc::corrupt_stream,
                           place_ == place::between ? "trailing garbage" : "not a zstd frame");
    if (head_size_ < 4)
        return;
    // Of a skippable frame the magic is enough.
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
    if (const auto code = ::ZSTD_decompressStream(zstd_.get(), &out, &in); ZSTD_isError(code))
        throw_zstd(code);
    head_size_ = 0;
    place_ = place::inside;
}

OVERMOUNT_DECL void decoder::step_zstd(std::span<const std::byte> input, std::span<std::byte> output,
                                       result& done)
{
    while (done.produced < output.size() && (done.consumed < input.size() || more_)) {
        // zstd never sees two frames at once, nor one whole: then it would decode in one go, and would take
        // or refuse a window by the accident of how the stream is cut.
        if (place_ != place::inside) {
            add_to_head(input[done.consumed++]);
            continue;
        }
        ZSTD_inBuffer in{input.data(), input.size(), done.consumed};
        ZSTD_outBuffer out{output.data(), output.size(), done.produced};
        const auto code = ::ZSTD_decompressStream(zstd_.get(), &out, &in);
        if (ZSTD_isError(code))
            throw_zstd(code);
        done.consumed = in.pos;
        done.produced = out.pos;
        more_ = code != 0 && out.pos == out.size;
        if (code == 0)
            place_ = place::between;
    }
}

OVERMOUNT_DECL void decoder::finish() const
{
    if (kind_ != compression::none && (place_ != place::between || head_size_ != 0))
        throw decode_error(errc::truncated_stream, to_string(kind_));
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
