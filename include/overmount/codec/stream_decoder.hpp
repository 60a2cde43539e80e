#ifndef OVERMOUNT_CODEC_STREAM_DECODER_HPP
#define OVERMOUNT_CODEC_STREAM_DECODER_HPP

#include <overmount/core/config.hpp>

#include <concepts>
#include <cstddef>
#include <span>

namespace overmount::OVERMOUNT_ABI {

/// The numbers of bytes that one call of a decoder consumed and produced.
class decode_result
{
public:
    std::size_t consumed = 0;
    std::size_t produced = 0;
};

/// Decodes one compressed stream incrementally.
///
/// Guarantees:
/// - `step` never waits. It decodes until it has exhausted the input or the output buffer. It throws `error` with `corrupt_stream` or
///   `unsupported_compression`. If it filled the output buffer, another `step` may produce more bytes without any input.
/// - `finish` is called at the end of the input. It throws `truncated_stream` if the input ends inside of a member or frame, or had
///   none at all.
/// - The checksums of the format are verified.
/// - After an error, the decoder can only be destroyed.
template <class Decoder>
concept stream_decoder =
    std::movable<Decoder> && requires(Decoder& decoder, const Decoder& constant,
                                      std::span<const std::byte> input, std::span<std::byte> output) {
        { decoder.step(input, output) } -> std::same_as<decode_result>;
        constant.finish();
    };

} // namespace overmount::OVERMOUNT_ABI

#endif
