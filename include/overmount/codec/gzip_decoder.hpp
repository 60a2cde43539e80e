#ifndef OVERMOUNT_CODEC_GZIP_DECODER_HPP
#define OVERMOUNT_CODEC_GZIP_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <cstdint>
#include <memory>

struct inflate_state;
struct z_stream_s;

namespace overmount::OVERMOUNT_ABI::detail {

#ifdef OVERMOUNT_WITH_ISAL

// Decodes one gzip member with ISA-L, which is two to three times as fast as zlib, and checks CRC and length. Uses about 90 KiB of
// memory. It parses the header itself, because ISA-L 2.30 computes a wrong header CRC if the input is split inside of the header.
class gzip_codec
{
public:
    static constexpr std::string_view name = "gzip";
    static constexpr std::byte first_byte{0x1f};

    gzip_codec();
    codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    void reset() noexcept;

private:
    // Fields of the header: ten fixed bytes, then the fields that the flags announce. See RFC 1952, section 2.3.
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
    void take_header_byte(std::byte byte);
    void next_field();

    std::unique_ptr<inflate_state, release> state_;
    field field_ = field::fixed;
    bool not_first_ = false; // whether another member preceded
    std::uint8_t flags_ = 0;
    std::uint32_t field_offset_ = 0; // bytes of the current field read so far
    std::uint32_t extra_size_ = 0;   // of the extra field
    std::uint32_t header_crc_ = 0;   // computed
    std::uint32_t stored_crc_ = 0;   // read from the header
};

#else

// Decodes one gzip member with zlib, and checks CRC and length. Uses about 40 KiB of memory.
class gzip_codec
{
public:
    static constexpr std::string_view name = "gzip";
    static constexpr std::byte first_byte{0x1f};

    gzip_codec();
    codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    void reset() noexcept;

private:
    struct release
    {
        void operator()(z_stream_s* stream) const noexcept;
    };
    std::unique_ptr<z_stream_s, release> stream_; // on the heap: zlib keeps a pointer to it
    bool not_first_ = false;                      // whether another member preceded
};

#endif

using gzip_decoder = member_decoder<gzip_codec>;

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/gzip_decoder.ipp>
#endif

#endif
