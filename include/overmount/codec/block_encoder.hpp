#ifndef OVERMOUNT_CODEC_BLOCK_ENCODER_HPP
#define OVERMOUNT_CODEC_BLOCK_ENCODER_HPP

#include <overmount/codec/layer_encoding.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// A block of a layer that is compressed independently.
struct encoded_block
{
    std::string bytes;
    std::uint32_t crc = 0;  // of the uncompressed bytes; gzip only
    std::uint64_t size = 0; // of the uncompressed bytes
};

// Compresses in independent blocks, so that the output does not depend on the number of workers: gzip as one member of deflate
// blocks, like `pigz --independent`; zstd as one frame for each block. Any thread may call `encode` at any time; the other
// functions are called in the order begin, note for each block in sequence, end.
class block_encoder
{
public:
    explicit block_encoder(const layer_encoding& how) : how_(how) {}

    // The number of uncompressed bytes in each block; the last block may have fewer.
    [[nodiscard]] std::size_t block_size() const noexcept
    {
        return how_.kind() == compression::zstd ? std::size_t{4} << 20 : std::size_t{1} << 20;
    }
    // Returns the bytes that precede the blocks.
    [[nodiscard]] std::string begin() const;
    [[nodiscard]] encoded_block encode(std::span<const std::byte> bytes) const;
    // Accounts for the next block of the output.
    void note(const encoded_block& block);
    // Returns the bytes that follow the blocks that were passed to `note`.
    [[nodiscard]] std::string end() const;

private:
    layer_encoding how_;
    std::uint32_t crc_ = 0;
    std::uint64_t size_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/block_encoder.ipp>
#endif

#endif
