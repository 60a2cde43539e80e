#ifndef OVERMOUNT_CODEC_BZIP2_DECODER_HPP
#define OVERMOUNT_CODEC_BZIP2_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <memory>

namespace overmount::OVERMOUNT_ABI::detail {

// Decodes one bzip2 stream with libbz2 and checks its CRCs. Uses up to 3.7 MB of memory.
class bzip2_codec
{
public:
    static constexpr std::string_view name = "bzip2";
    static constexpr std::byte first_byte{'B'};

    bzip2_codec();
    codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    void reset();

private:
    struct state; // libbz2's stream type has no name that can be forward-declared
    struct release
    {
        void operator()(state* stream) const noexcept;
    };
    std::unique_ptr<state, release> state_;
};

using bzip2_decoder = member_decoder<bzip2_codec>;

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/bzip2_decoder.ipp>
#endif

#endif
