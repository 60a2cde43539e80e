#ifndef OVERMOUNT_CODEC_DECODER_HPP
#define OVERMOUNT_CODEC_DECODER_HPP

#include <overmount/codec/bzip2_decoder.hpp>
#include <overmount/codec/gzip_decoder.hpp>
#include <overmount/codec/xz_decoder.hpp>
#include <overmount/codec/zstd_decoder.hpp>
#include <overmount/core/compression.hpp>
#include <overmount/core/limits.hpp>

#include <cstdint>
#include <variant>

namespace overmount::OVERMOUNT_ABI::detail {

// Detects the compression from the first 6 bytes, or from the whole stream if it is shorter. Returns `none` without a known magic
// number. Throws `unsupported_compression` for lz4.
[[nodiscard]] compression detect_compression(std::span<const std::byte> head);

// Decodes a stream of any supported compression and enforces the limits. A `stream_decoder`.
class decoder
{
public:
    decoder(compression kind, const limits& bounds);

    // Does nothing if `output` is empty.
    [[nodiscard]] decode_result step(std::span<const std::byte> input, std::span<std::byte> output);
    void finish() const;

    // Whether the output equals the input, so that the caller may bypass the decoder.
    [[nodiscard]] bool passthrough() const noexcept { return std::holds_alternative<copy_decoder>(kind_); }

private:
    struct copy_decoder
    {
        decode_result step(std::span<const std::byte> input, std::span<std::byte> output);
        void finish() const {}
    };
    using any = std::variant<copy_decoder, gzip_decoder, zstd_decoder, xz_decoder, bzip2_decoder>;
    [[nodiscard]] static any make(compression kind, const limits& bounds);

    any kind_;
    std::uint64_t ratio_, ratio_from_;
    std::uint64_t consumed_ = 0, produced_ = 0;
};

static_assert(stream_decoder<decoder> && stream_decoder<gzip_decoder> && stream_decoder<zstd_decoder> &&
              stream_decoder<xz_decoder> && stream_decoder<bzip2_decoder>);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/decoder.ipp>
#endif

#endif
