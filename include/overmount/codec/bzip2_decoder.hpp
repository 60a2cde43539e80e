#ifndef OVERMOUNT_CODEC_BZIP2_DECODER_HPP
#define OVERMOUNT_CODEC_BZIP2_DECODER_HPP

#include <overmount/codec/member_decoder.hpp>

#include <memory>

namespace overmount::inline OVERMOUNT_ABI::detail {

// One stream of bzip2 by libbz2, its CRCs included. Holds up to 3.7 MB.
class bzip2_codec
{
public:
    static constexpr std::string_view name = "bzip2";
    static constexpr std::byte first_byte{'B'};

    OVERMOUNT_LAZY bzip2_codec();
    OVERMOUNT_LAZY codec_result run(std::span<const std::byte> in, std::span<std::byte> out);
    OVERMOUNT_LAZY void reset();

private:
    struct state; // libbz2's stream is a type without a name to declare
    struct release
    {
        void operator()(state* stream) const noexcept;
    };
    std::unique_ptr<state, release> state_;
};

using bzip2_decoder = member_decoder<bzip2_codec>;

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/bzip2_decoder.ipp>
#endif

#endif
