#ifndef OVERMOUNT_CODEC_STREAM_DECODER_HPP
#define OVERMOUNT_CODEC_STREAM_DECODER_HPP

#include <overmount/core/config.hpp>

#include <concepts>
#include <cstddef>
#include <span>

namespace overmount::inline OVERMOUNT_ABI {

/// What one call of a decoder did, in bytes.
class decode_result
{
public:
    std::size_t consumed = 0;
    std::size_t produced = 0;
};

/// Decodes one compressed stream that comes in pieces.
///
/// Guarantees: `step` never waits, decodes until the input or the room is exhausted, and throws `error` with
/// `corrupt_stream` or `unsupported_compression`; when the output came back full there may be more to come
/// without any input. `finish`, at the end of the input, throws `truncated_stream` inside of a member or
/// frame, and when there was none at all. Checksums of the format are checked. After an error it can only be
/// destroyed.
template <class Decoder>
concept stream_decoder =
    std::movable<Decoder> && requires(Decoder& decoder, const Decoder& constant,
                                      std::span<const std::byte> input, std::span<std::byte> output) {
        { decoder.step(input, output) } -> std::same_as<decode_result>;
        constant.finish();
    };

} // namespace overmount::inline OVERMOUNT_ABI

#endif
