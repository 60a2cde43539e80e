#ifndef OVERMOUNT_UNPACK_DECODER_HPP
#define OVERMOUNT_UNPACK_DECODER_HPP

#include <overmount/compression.hpp>
#include <overmount/limits.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

struct z_stream_s;
struct ZSTD_DCtx_s;

namespace overmount::inline OVERMOUNT_ABI::detail {

// The compression that the first bytes tell: 6 of them, or the whole stream if it is shorter. What has no
// known magic is `none`. Throws `unsupported_compression`, naming it, for xz, bzip2 and lz4.
[[nodiscard]] compression detect_compression(std::span<const std::byte> head);

// Decodes one stream that comes in pieces; never waits. After an error it can only be destroyed.
//
// gzip: any number of members, CRC and length of each checked; zstd: any number of frames, skippable ones
// anywhere. Behind the last member or frame there must be nothing, zero bytes included: Go's gzip reader,
// which made and reads nearly all layers, refuses them as well. Holds about 40 KiB for gzip, and the window
// (`limits::zstd_window`) for zstd; the frame's own header decides that, so a larger window is refused before
// anything is allocated.
class decoder
{
public:
    decoder(compression kind, const limits& bounds);

    struct result
    {
        std::size_t consumed = 0;
        std::size_t produced = 0;
    };
    // Decodes from `input` into `output` until one is exhausted. When `output` came back full there may be
    // more to come without any input: go on until a step leaves room. A step into an empty output does
    // nothing.
    [[nodiscard]] result step(std::span<const std::byte> input, std::span<std::byte> output);

    // To be called at the end of the input: throws `truncated_stream` inside of a member or frame, and when
    // there was none at all.
    void finish() const;

    // The output is the input: the caller may leave the decoder out.
    [[nodiscard]] bool passthrough() const noexcept { return kind_ == compression::none; }

private:
    struct release
    {
        void operator()(z_stream_s* stream) const noexcept;
        void operator()(ZSTD_DCtx_s* context) const noexcept;
    };
    // Where the next byte belongs to. A zstd header in the making counts as outside.
    enum class place : unsigned char
    {
        start,
        inside,
        between,
    };

    void step_gzip(std::span<const std::byte> input, std::span<std::byte> output, result& done);
    void step_zstd(std::span<const std::byte> input, std::span<std::byte> output, result& done);
    void add_to_head(std::byte byte);

    compression kind_;
    place place_ = place::start;
    bool more_ = false; // the output was filled: there may be more
    std::uint8_t head_size_ = 0;
    std::array<std::byte, 18> head_{}; // of a zstd frame
    std::uint64_t ratio_, ratio_from_, window_;
    std::uint64_t consumed_ = 0, produced_ = 0;
    std::unique_ptr<z_stream_s, release> gzip_; // on the heap: zlib keeps its address
    std::unique_ptr<ZSTD_DCtx_s, release> zstd_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/impl/decoder.ipp>
#endif

#endif
