#ifndef OVERMOUNT_CODEC_IMPL_DECODER_IPP
#define OVERMOUNT_CODEC_IMPL_DECODER_IPP

#include <overmount/codec/decoder.hpp>

#include <algorithm>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL compression detect_compression(std::span<const std::byte> head)
{
    const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
    if (text.starts_with("\x1f\x8b"))
        return compression::gzip;
    if (head.size() >= 4 && begins_zstd(head))
        return compression::zstd;
    if (text.starts_with(std::string_view("\xfd\x37zXZ\0", 6)))
        return compression::xz;
    // Also check the block or end magic from the fifth byte: a tar may start with a file name like BZh9.
    if (text.size() >= 6 && text.starts_with("BZh") &&
        (text.substr(4, 2) == "\x31\x41" || text.substr(4, 2) == "\x17\x72"))
        return compression::bzip2;
    if (text.starts_with("\x04\x22\x4d\x18") || text.starts_with("\x02\x21\x4c\x18"))
        throw decode_error(errc::unsupported_compression, "lz4 is not supported");
    return compression::none;
}

OVERMOUNT_DECL decode_result decoder::copy_decoder::step(std::span<const std::byte> input,
                                                              std::span<std::byte> output)
{
    decode_result done;
    done.consumed = done.produced = std::min(input.size(), output.size());
    std::copy_n(input.begin(), done.produced, output.begin());
    return done;
}

OVERMOUNT_DECL decoder::any decoder::make(compression kind, const limits& bounds)
{
    switch (kind) {
    case compression::gzip:
        return gzip_decoder(gzip_codec());
    case compression::zstd:
        return zstd_decoder(bounds.zstd_window);
    case compression::xz:
        return xz_decoder(xz_codec(bounds.xz_memory));
    case compression::bzip2:
        return bzip2_decoder(bzip2_codec());
    case compression::none:
        break;
    }
    return copy_decoder();
}

OVERMOUNT_DECL decoder::decoder(compression kind, const limits& bounds)
    : kind_(make(kind, bounds)), ratio_(bounds.ratio), ratio_from_(bounds.ratio_from)
{}

OVERMOUNT_DECL decode_result decoder::step(std::span<const std::byte> input, std::span<std::byte> output)
{
    const decode_result done = std::visit([&](auto& kind) { return kind.step(input, output); }, kind_);
    consumed_ += done.consumed;
    produced_ += done.produced;
    // Equivalent to produced > ratio * consumed, without overflow. `consumed_` is not 0, as no decoder produces bytes without input.
    if (produced_ > ratio_from_ && (produced_ - 1) / consumed_ >= ratio_)
        throw decode_error(errc::compression_ratio_exceeded,
                           std::to_string(consumed_) + " bytes expanded to " + std::to_string(produced_));
    return done;
}

OVERMOUNT_DECL void decoder::finish() const
{
    std::visit([](const auto& kind) { kind.finish(); }, kind_);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
