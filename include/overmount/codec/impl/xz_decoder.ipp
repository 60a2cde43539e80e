#ifndef OVERMOUNT_CODEC_IMPL_XZ_DECODER_IPP
#define OVERMOUNT_CODEC_IMPL_XZ_DECODER_IPP

#include <overmount/codec/xz_decoder.hpp>

#include <lzma.h>

#include <new>

namespace overmount::OVERMOUNT_ABI::detail {

struct xz_codec::state
{
    ::lzma_stream stream = LZMA_STREAM_INIT;
};

OVERMOUNT_DECL void xz_codec::release::operator()(state* stream) const noexcept
{
    ::lzma_end(&stream->stream);
    delete stream;
}

OVERMOUNT_DECL xz_codec::xz_codec(std::uint64_t memory) : state_(new state), memory_(memory)
{
    reset();
}

OVERMOUNT_DECL void xz_codec::reset()
{
    // Reuses the memory of the previous stream.
    if (::lzma_stream_decoder(&state_->stream, memory_, LZMA_TELL_UNSUPPORTED_CHECK) != LZMA_OK)
        throw std::bad_alloc();
}

OVERMOUNT_DECL codec_result xz_codec::run(std::span<const std::byte> in, std::span<std::byte> out)
{
    ::lzma_stream& stream = state_->stream;
    stream.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
    stream.avail_in = in.size();
    stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    stream.avail_out = out.size();
    const ::lzma_ret code = ::lzma_code(&stream, LZMA_RUN);
    switch (code) {
    case LZMA_OK:
    case LZMA_STREAM_END:
    case LZMA_BUF_ERROR: // only means that no progress was possible
        break;
    case LZMA_MEM_ERROR:
        throw std::bad_alloc();
    case LZMA_MEMLIMIT_ERROR:
        throw decode_error(errc::unsupported_compression,
                           "decoding the xz stream needs " + std::to_string(::lzma_memusage(&stream)) +
                               " bytes of memory, above the limit of " + std::to_string(memory_));
    case LZMA_OPTIONS_ERROR:
    case LZMA_UNSUPPORTED_CHECK:
        throw decode_error(errc::unsupported_compression, "the xz stream uses unsupported options");
    case LZMA_FORMAT_ERROR:
        throw decode_error(errc::corrupt_stream, "incorrect header check");
    default:
        throw decode_error(errc::corrupt_stream, "incorrect data check");
    }
    return {in.size() - stream.avail_in, out.size() - stream.avail_out, code == LZMA_STREAM_END};
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
