#ifndef OVERMOUNT_CODEC_ZSTD_DECODER_HPP
#define OVERMOUNT_CODEC_ZSTD_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <array>
#include <cstdint>
#include <memory>

struct ZSTD_DCtx_s;

namespace overmount::OVERMOUNT_ABI::detail {

// Whether `head`, of which only the first four bytes matter, is the start of a zstd frame or of a skippable frame. Frames of zstd
// before 0.8, which libzstd may still decode, do not count.
[[nodiscard]] bool begins_zstd(std::span<const std::byte> head) noexcept;

// Decodes any number of frames, with skippable frames anywhere, and verifies checksums. Its memory is the frame's window, whose size
// the frame's header sets: a window above the limit is refused before anything is allocated.
class zstd_decoder
{
public:
    explicit zstd_decoder(std::uint64_t window);
    decode_result step(std::span<const std::byte> input, std::span<std::byte> output);
    void finish() const;

private:
    struct release
    {
        void operator()(ZSTD_DCtx_s* context) const noexcept;
    };
    // The position of the next byte. An incomplete frame header counts as `start` or `between`.
    enum class place : unsigned char
    {
        start,
        inside,
        between,
    };
    void add_to_head(std::byte byte);

    place place_ = place::start;
    bool more_ = false; // the output was filled, so zstd may produce more without input
    std::uint8_t head_size_ = 0;
    std::array<std::byte, 18> head_{}; // the header of a frame, as far as it was read
    std::uint64_t window_;
    std::unique_ptr<ZSTD_DCtx_s, release> context_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/zstd_decoder.ipp>
#endif

#endif
