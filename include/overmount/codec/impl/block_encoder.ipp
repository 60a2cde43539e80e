#ifndef OVERMOUNT_CODEC_IMPL_BLOCK_ENCODER_IPP
#define OVERMOUNT_CODEC_IMPL_BLOCK_ENCODER_IPP

#include <overmount/codec/block_encoder.hpp>

#include <zlib.h>
#include <zstd.h>

#include <memory>
#include <new>

namespace overmount::OVERMOUNT_ABI::detail {

inline std::uint32_t gzip_checksum(std::span<const std::byte> bytes)
{
    const auto* data = reinterpret_cast<const Bytef*>(bytes.data());
    return static_cast<std::uint32_t>(::crc32_z(::crc32_z(0, nullptr, 0), data, bytes.size()));
}

inline std::string deflate_block(std::span<const std::byte> bytes, int level)
{
    z_stream stream{};
    if (::deflateInit2(&stream, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::bad_alloc();
    const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, &::deflateEnd);
    std::string out(::deflateBound(&stream, bytes.size()) + 16, '\0');
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    // Z_SYNC_FLUSH ends at a byte boundary, so that another block can follow. The output has room for everything, so one call is enough.
    if (::deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_in != 0 || stream.avail_out == 0)
        throw error(errc::corrupt_stream).at(stage::target).operation("deflate");
    out.resize(out.size() - stream.avail_out);
    return out;
}

inline std::string zstd_frame(std::span<const std::byte> bytes, int level)
{
    struct release
    {
        void operator()(ZSTD_CCtx* owned) const noexcept { ::ZSTD_freeCCtx(owned); }
    };
    const std::unique_ptr<ZSTD_CCtx, release> context(::ZSTD_createCCtx());
    if (!context)
        throw std::bad_alloc();
    std::string out(::ZSTD_compressBound(bytes.size()), '\0');
    ::ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
    ::ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
    const std::size_t size = ::ZSTD_compress2(context.get(), out.data(), out.size(), bytes.data(), bytes.size());
    if (::ZSTD_isError(size))
        throw error(errc::corrupt_stream).at(stage::target).operation("zstd").detail(::ZSTD_getErrorName(size));
    out.resize(size);
    return out;
}

OVERMOUNT_DECL std::string block_encoder::begin() const
{
    // Method deflate, no flags, no time, no extra flags, OS Unix. See RFC 1952, section 2.3.
    return how_.kind() == compression::gzip ? std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10) : std::string();
}

OVERMOUNT_DECL encoded_block block_encoder::encode(std::span<const std::byte> bytes) const
{
    encoded_block out;
    out.size = bytes.size();
    if (how_.kind() == compression::gzip) {
        out.bytes = deflate_block(bytes, how_.level());
        out.crc = gzip_checksum(bytes);
    } else {
        out.bytes = zstd_frame(bytes, how_.level());
    }
    return out;
}

OVERMOUNT_DECL void block_encoder::note(const encoded_block& block)
{
    if (how_.kind() == compression::gzip)
        crc_ = static_cast<std::uint32_t>(::crc32_combine(crc_, block.crc, static_cast<z_off_t>(block.size)));
    size_ += block.size;
}

OVERMOUNT_DECL std::string block_encoder::end() const
{
    if (how_.kind() == compression::zstd)
        return size_ == 0 ? zstd_frame({}, how_.level()) : std::string(); // an empty layer needs one empty frame
    if (how_.kind() == compression::none)
        return {};
    std::string out("\x03\x00", 2); // an empty final block
    for (const std::uint32_t number : {crc_, static_cast<std::uint32_t>(size_)})
        for (unsigned shift = 0; shift < 32; shift += 8)
            out += static_cast<char>(number >> shift & 0xff);
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
