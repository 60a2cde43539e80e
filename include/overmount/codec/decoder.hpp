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

namespace overmount::inline OVERMOUNT_ABI::detail {

// The compression that the first bytes tell: 6 of them, or the whole stream if it is shorter. What has no
// known magic is `none`. Throws `unsupported_compression` for lz4.
OVERMOUNT_LAZY [[nodiscard]] compression detect_compression(std::span<const std::byte> head);

// Decodes a stream of any kind within the limits; a `stream_decoder`.
class decoder
{
public:
    OVERMOUNT_LAZY decoder(compression kind, const limits& bounds);

    // A step into an empty output does nothing.
    OVERMOUNT_LAZY [[nodiscard]] decode_result step(std::span<const std::byte> input, std::span<std::byte> output);
    OVERMOUNT_LAZY void finish() const;

    // The output is the input: the caller may leave the decoder out.
    [[nodiscard]] bool passthrough() const noexcept { return std::holds_alternative<copy_decoder>(kind_); }

private:
    struct copy_decoder
    {
        OVERMOUNT_LAZY decode_result step(std::span<const std::byte> input, std::span<std::byte> output);
        void finish() const {}
    };
    using any = std::variant<copy_decoder, gzip_decoder, zstd_decoder, xz_decoder, bzip2_decoder>;
    OVERMOUNT_LAZY [[nodiscard]] static any make(compression kind, const limits& bounds);

    any kind_;
    std::uint64_t ratio_, ratio_from_;
    std::uint64_t consumed_ = 0, produced_ = 0;
};

static_assert(stream_decoder<decoder> && stream_decoder<gzip_decoder> && stream_decoder<zstd_decoder> &&
              stream_decoder<xz_decoder> && stream_decoder<bzip2_decoder>);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/decoder.ipp>
#endif

#endif
