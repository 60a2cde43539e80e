#ifndef OVERMOUNT_CODEC_BLOCK_ENCODER_HPP
#define OVERMOUNT_CODEC_BLOCK_ENCODER_HPP

#include <overmount/codec/layer_encoding.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace overmount::inline OVERMOUNT_ABI::detail {

// A piece of a layer, compressed by itself.
struct encoded_block
{
    std::string bytes;
    std::uint32_t crc = 0;  // of what it expands to; gzip only
    std::uint64_t size = 0; // of the same
};

// Compresses in blocks that know nothing of each other, so that any number of workers makes the same bytes: gzip as
// one member of deflate blocks, as `pigz --independent` does; zstd as one frame a block. `encode` may be called by
// any thread at any time, the others in their order.
class block_encoder
{
public:
    explicit block_encoder(const layer_encoding& how) : how_(how) {}

    // What a block should hold; the last one holds less.
    [[nodiscard]] std::size_t block_size() const noexcept
    {
        return how_.kind() == compression::zstd ? std::size_t{4} << 20 : std::size_t{1} << 20;
    }
    // In front of all blocks.
    OVERMOUNT_LAZY [[nodiscard]] std::string begin() const;
    OVERMOUNT_LAZY [[nodiscard]] encoded_block encode(std::span<const std::byte> bytes) const;
    // Notes what the next block was.
    OVERMOUNT_LAZY void note(const encoded_block& block);
    // Behind all blocks that were noted.
    OVERMOUNT_LAZY [[nodiscard]] std::string end() const;

private:
    layer_encoding how_;
    std::uint32_t crc_ = 0;
    std::uint64_t size_ = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/block_encoder.ipp>
#endif

#endif
