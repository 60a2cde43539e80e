#ifndef OVERMOUNT_CODEC_IMPL_BZIP2_DECODER_IPP
#define OVERMOUNT_CODEC_IMPL_BZIP2_DECODER_IPP

#include <overmount/codec/bzip2_decoder.hpp>

#include <bzlib.h>

#include <new>

namespace overmount::OVERMOUNT_ABI::detail {

struct bzip2_codec::state
{
    ::bz_stream stream{};
};

OVERMOUNT_DECL void bzip2_codec::release::operator()(state* stream) const noexcept
{
    ::BZ2_bzDecompressEnd(&stream->stream);
    delete stream;
}

OVERMOUNT_DECL bzip2_codec::bzip2_codec()
{
    reset();
}

OVERMOUNT_DECL void bzip2_codec::reset()
{
    state_.reset();
    auto fresh = std::make_unique<state>();
    if (::BZ2_bzDecompressInit(&fresh->stream, 0, 0) != BZ_OK)
        throw std::bad_alloc();
    state_.reset(fresh.release());
}

OVERMOUNT_DECL codec_result bzip2_codec::run(std::span<const std::byte> in, std::span<std::byte> out)
{
    ::bz_stream& stream = state_->stream;
    // libbz2 does not write to its input; its type lacks the const.
    stream.next_in = reinterpret_cast<char*>(const_cast<std::byte*>(in.data()));
    stream.avail_in = static_cast<unsigned>(in.size());
    stream.next_out = reinterpret_cast<char*>(out.data());
    stream.avail_out = static_cast<unsigned>(out.size());
    const int code = ::BZ2_bzDecompress(&stream);
    switch (code) {
    case BZ_OK:
    case BZ_STREAM_END:
        break;
    case BZ_MEM_ERROR:
        throw std::bad_alloc();
    case BZ_DATA_ERROR_MAGIC:
        throw decode_error(errc::corrupt_stream, "incorrect header check");
    default:
        throw decode_error(errc::corrupt_stream, "incorrect data check");
    }
    return {in.size() - stream.avail_in, out.size() - stream.avail_out, code == BZ_STREAM_END};
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
