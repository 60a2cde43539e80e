#ifndef OVERMOUNT_CODEC_GZIP_DECODER_HPP
#define OVERMOUNT_CODEC_GZIP_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <cstdint>
#include <memory>

struct inflate_state;
struct z_stream_s;

namespace overmount::inline OVERMOUNT_ABI::detail {

#ifdef OVERMOUNT_WITH_ISAL

// One member of gzip by ISA-L, which is two to three times as fast as zlib; CRC and length are checked. Holds
// about 90 KiB. The header is read here: ISA-L 2.30 miscounts the header's CRC where the input is cut inside
// of it.
class gzip_codec
{
public:
    static constexpr std::string_view name = "gzip";
    static constexpr std::byte first_byte{0x1f};

    OVERMOUNT_LAZY gzip_codec();
    OVERMOUNT_LAZY codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    OVERMOUNT_LAZY void reset() noexcept;

private:
    // RFC 1952, section 2.3: ten bytes, then what the flags announce.
    enum class field : unsigned char
    {
        fixed,
        extra_size,
        extra,
        name,
        comment,
        crc,
        data,
    };
    struct release
    {
        void operator()(inflate_state* state) const noexcept;
    };
    OVERMOUNT_LAZY void take_header_byte(std::byte byte);
    OVERMOUNT_LAZY void next_field();

    std::unique_ptr<inflate_state, release> state_;
    field field_ = field::fixed;
    bool later_ = false; // not the first member
    std::uint8_t flags_ = 0;
    std::uint32_t at_ = 0;   // bytes of the field so far
    std::uint32_t size_ = 0; // of the extra field
    std::uint32_t crc_ = 0;  // of the header
    std::uint32_t told_ = 0; // the CRC that the header has
};

#else

// One member of gzip by zlib; CRC and length are checked. Holds about 40 KiB.
class gzip_codec
{
public:
    static constexpr std::string_view name = "gzip";
    static constexpr std::byte first_byte{0x1f};

    OVERMOUNT_LAZY gzip_codec();
    OVERMOUNT_LAZY codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    OVERMOUNT_LAZY void reset() noexcept;

private:
    struct release
    {
        void operator()(z_stream_s* stream) const noexcept;
    };
    std::unique_ptr<z_stream_s, release> stream_; // zlib keeps its address
    bool later_ = false;                          // not the first member
};

#endif

using gzip_decoder = member_decoder<gzip_codec>;

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/gzip_decoder.ipp>
#endif

#endif
