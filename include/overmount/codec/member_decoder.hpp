#ifndef OVERMOUNT_CODEC_MEMBER_DECODER_HPP
#define OVERMOUNT_CODEC_MEMBER_DECODER_HPP

#include <overmount/codec/stream_decoder.hpp>
#include <overmount/core/error.hpp>

#include <algorithm>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

[[nodiscard]] inline error decode_error(errc code, std::string_view words)
{
    return error(code).at(stage::decode).detail(words);
}

// The result of one call of a codec.
struct codec_result
{
    std::size_t consumed = 0, produced = 0;
    bool ended = false; // whether the member has ended
};

// Decodes a format that is a sequence of members, each decoded by `Codec`: gzip, xz, bzip2. Nothing may follow the last member, not
// even zero bytes: Go's gzip reader, which reads nearly all layers, refuses them as well.
template <class Codec>
class member_decoder
{
public:
    explicit member_decoder(Codec codec) : codec_(std::move(codec)) {}

    decode_result step(std::span<const std::byte> input, std::span<std::byte> output)
    {
        constexpr std::size_t most = std::size_t{1} << 30; // codecs have 32-bit sizes
        decode_result done;
        while (done.produced < output.size() && (done.consumed < input.size() || more_)) {
            auto in = input.subspan(done.consumed);
            auto out = output.subspan(done.produced);
            if (place_ == place::between) {
                if (in.front() != Codec::first_byte)
                    throw decode_error(errc::corrupt_stream, "trailing garbage");
                codec_.reset();
            }
            place_ = place::inside;
            in = in.first(std::min(in.size(), most));
            out = out.first(std::min(out.size(), most));
            const codec_result made = codec_.run(in, out);
            done.consumed += made.consumed;
            done.produced += made.produced;
            more_ = !made.ended && made.produced == out.size();
            if (made.ended)
                place_ = place::between;
        }
        return done;
    }

    void finish() const
    {
        if (place_ != place::between)
            throw decode_error(errc::truncated_stream, Codec::name);
    }

private:
    enum class place : unsigned char
    {
        start,
        inside,
        between,
    };
    Codec codec_;
    place place_ = place::start;
    bool more_ = false; // the output was filled, so the codec may produce more without input
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
