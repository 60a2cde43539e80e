#ifndef OVERMOUNT_CODEC_XZ_DECODER_HPP
#define OVERMOUNT_CODEC_XZ_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <cstdint>
#include <memory>

namespace overmount::OVERMOUNT_ABI::detail {

// Decodes one xz stream with liblzma and verifies its integrity check. Uses as much memory as the stream's dictionary needs; throws
// `unsupported_compression` if that is more than `memory` bytes.
class xz_codec
{
public:
    static constexpr std::string_view name = "xz";
    static constexpr std::byte first_byte{0xfd};

    explicit xz_codec(std::uint64_t memory);
    codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    void reset();

private:
    struct state; // liblzma's stream type has no name that can be forward-declared
    struct release
    {
        void operator()(state* stream) const noexcept;
    };
    std::unique_ptr<state, release> state_;
    std::uint64_t memory_;
};

using xz_decoder = member_decoder<xz_codec>;

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/xz_decoder.ipp>
#endif

#endif
