#ifndef OVERMOUNT_CODEC_ZSTD_DECODER_HPP
#define OVERMOUNT_CODEC_ZSTD_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <array>
#include <cstdint>
#include <memory>

struct ZSTD_DCtx_s;

namespace overmount::inline OVERMOUNT_ABI::detail {

// Whether up to four bytes begin a zstd frame, or a skippable one. Frames of zstd before 0.8, which the
// library might still read, do not count.
OVERMOUNT_LAZY [[nodiscard]] bool begins_zstd(std::span<const std::byte> head) noexcept;

// Any number of frames, skippable ones anywhere, checksums checked. Holds the window of the frame; the
// frame's own header decides that, so a larger one than the limit is refused before anything is allocated.
class zstd_decoder
{
public:
    OVERMOUNT_LAZY explicit zstd_decoder(std::uint64_t window);
    OVERMOUNT_LAZY decode_result step(std::span<const std::byte> input, std::span<std::byte> output);
    OVERMOUNT_LAZY void finish() const;

private:
    struct release
    {
        void operator()(ZSTD_DCtx_s* context) const noexcept;
    };
    // Where the next byte belongs to. A frame header in the making counts as outside.
    enum class place : unsigned char
    {
        start,
        inside,
        between,
    };
    OVERMOUNT_LAZY void add_to_head(std::byte byte);

    place place_ = place::start;
    bool more_ = false; // the output was filled: there may be more
    std::uint8_t head_size_ = 0;
    std::array<std::byte, 18> head_{}; // of a frame
    std::uint64_t window_;
    std::unique_ptr<ZSTD_DCtx_s, release> context_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/zstd_decoder.ipp>
#endif

#endif
