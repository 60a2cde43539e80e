#ifndef OVERMOUNT_CODEC_XZ_DECODER_HPP
#define OVERMOUNT_CODEC_XZ_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <cstdint>
#include <memory>

namespace overmount::inline OVERMOUNT_ABI::detail {

// One stream of xz by liblzma, its integrity check included. Holds what the stream's dictionary needs, at
// most `memory` bytes; more is `unsupported_compression`.
class xz_codec
{
public:
    static constexpr std::string_view name = "xz";
    static constexpr std::byte first_byte{0xfd};

    OVERMOUNT_LAZY explicit xz_codec(std::uint64_t memory);
    OVERMOUNT_LAZY codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    OVERMOUNT_LAZY void reset();

private:
    struct state; // liblzma's stream is a type without a name to declare
    struct release
    {
        void operator()(state* stream) const noexcept;
    };
    std::unique_ptr<state, release> state_;
    std::uint64_t memory_;
};

using xz_decoder = member_decoder<xz_codec>;

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/xz_decoder.ipp>
#endif

#endif
