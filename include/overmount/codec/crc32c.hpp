#ifndef OVERMOUNT_CODEC_CRC32C_HPP
#define OVERMOUNT_CODEC_CRC32C_HPP

#include <overmount/core/config.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace overmount::OVERMOUNT_ABI::detail {

// Two implementations that update a CRC before its final inversion. crc32c_by_instruction requires a processor with SSE4.2.
[[nodiscard]] std::uint32_t crc32c_by_instruction(std::uint32_t state, std::span<const std::byte> bytes) noexcept;
[[nodiscard]] std::uint32_t crc32c_by_table(std::uint32_t state, std::span<const std::byte> bytes) noexcept;
[[nodiscard]] bool has_crc32c_instruction() noexcept;

// CRC-32C (Castagnoli). It detects accidental damage, not manipulation. See RFC 3720, section 12.1.
class crc32c
{
public:
    void update(std::span<const std::byte> bytes) noexcept
    {
        state_ = has_crc32c_instruction() ? crc32c_by_instruction(state_, bytes) : crc32c_by_table(state_, bytes);
    }
    [[nodiscard]] std::uint32_t value() const noexcept { return ~state_; }

private:
    std::uint32_t state_ = ~std::uint32_t{0};
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/codec/impl/crc32c.ipp>
#endif

#endif
