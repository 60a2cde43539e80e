#ifndef OVERMOUNT_CODEC_IMPL_CRC32C_IPP
#define OVERMOUNT_CODEC_IMPL_CRC32C_IPP

#include <overmount/codec/crc32c.hpp>

#include <array>
#include <cstring>

#ifdef __x86_64__
#include <nmmintrin.h>
#endif

namespace overmount::OVERMOUNT_ABI::detail {

using crc32c_tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Table k: the CRC contribution of a byte that is followed by k zero bytes.
constexpr crc32c_tables make_crc32c_tables() noexcept
{
    crc32c_tables out{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit)
            value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0);
        out[0][byte] = value;
    }
    for (std::size_t k = 1; k < 8; ++k)
        for (std::size_t byte = 0; byte < 256; ++byte)
            out[k][byte] = out[0][out[k - 1][byte] & 0xff] ^ (out[k - 1][byte] >> 8);
    return out;
}

inline constexpr crc32c_tables crc32c_table = make_crc32c_tables();

inline std::uint64_t load_little_endian(const std::byte* at) noexcept
{
    std::uint64_t out = 0;
    for (unsigned i = 0; i < 8; ++i)
        out |= std::to_integer<std::uint64_t>(at[i]) << (8 * i);
    return out;
}

OVERMOUNT_DECL std::uint32_t crc32c_by_table(std::uint32_t state, std::span<const std::byte> bytes) noexcept
{
    for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
        const std::uint64_t word = load_little_endian(bytes.data()) ^ state;
        state = 0;
        for (unsigned i = 0; i < 8; ++i)
            state ^= crc32c_table[7 - i][(word >> (8 * i)) & 0xff];
    }
    for (const std::byte byte : bytes)
        state = crc32c_table[0][(state ^ std::to_integer<std::uint32_t>(byte)) & 0xff] ^ (state >> 8);
    return state;
}

#ifdef __x86_64__

// The instruction has a latency of three cycles and a throughput of one per cycle. Three parts of the data are therefore processed
// in parallel, and a table shifts the CRC of one part by the length of the next.
inline constexpr std::size_t crc32c_lane = 1024;

using crc32c_shift_table = std::array<std::array<std::uint32_t, 256>, 4>;

constexpr crc32c_shift_table make_crc32c_shift() noexcept
{
    // The CRC contribution of each bit that is followed by 1, 2, 4, ... zero bytes.
    std::array<std::uint32_t, 32> shift{};
    const auto apply = [&shift](std::uint32_t value) {
        std::uint32_t out = 0;
        for (std::size_t bit = 0; value != 0; ++bit, value >>= 1)
            out ^= (value & 1) != 0 ? shift[bit] : 0;
        return out;
    };
    for (std::size_t bit = 0; bit < 32; ++bit) {
        const std::uint32_t value = std::uint32_t{1} << bit;
        shift[bit] = crc32c_table[0][value & 0xff] ^ (value >> 8);
    }
    for (std::size_t length = 1; length < crc32c_lane; length *= 2) {
        std::array<std::uint32_t, 32> twice{};
        for (std::size_t bit = 0; bit < 32; ++bit)
            twice[bit] = apply(shift[bit]);
        shift = twice;
    }
    crc32c_shift_table out{};
    for (std::size_t k = 0; k < 4; ++k)
        for (std::uint32_t byte = 0; byte < 256; ++byte)
            out[k][byte] = apply(byte << (8 * k));
    return out;
}

inline constexpr crc32c_shift_table crc32c_shift = make_crc32c_shift();

inline std::uint32_t shift_crc32c(std::uint64_t state) noexcept
{
    return crc32c_shift[0][state & 0xff] ^ crc32c_shift[1][(state >> 8) & 0xff] ^
           crc32c_shift[2][(state >> 16) & 0xff] ^ crc32c_shift[3][(state >> 24) & 0xff];
}

[[gnu::target("sse4.2")]] inline std::uint64_t crc32c_word(std::uint64_t state, const std::byte* at) noexcept
{
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    return _mm_crc32_u64(state, word);
}

[[gnu::target("sse4.2")]] OVERMOUNT_DECL std::uint32_t
crc32c_by_instruction(std::uint32_t state, std::span<const std::byte> bytes) noexcept
{
    std::uint64_t first = state;
    for (; bytes.size() >= 3 * crc32c_lane; bytes = bytes.subspan(3 * crc32c_lane)) {
        std::uint64_t second = 0, third = 0;
        const std::byte* at = bytes.data();
        for (const std::byte* const end = at + crc32c_lane; at != end; at += 8) {
            first = crc32c_word(first, at);
            second = crc32c_word(second, at + crc32c_lane);
            third = crc32c_word(third, at + 2 * crc32c_lane);
        }
        first = shift_crc32c(shift_crc32c(first) ^ second) ^ third;
    }
    for (; bytes.size() >= 8; bytes = bytes.subspan(8))
        first = crc32c_word(first, bytes.data());
    auto out = static_cast<std::uint32_t>(first);
    for (const std::byte byte : bytes)
        out = _mm_crc32_u8(out, std::to_integer<unsigned char>(byte));
    return out;
}

OVERMOUNT_DECL bool has_crc32c_instruction() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }

#else

OVERMOUNT_DECL std::uint32_t crc32c_by_instruction(std::uint32_t state, std::span<const std::byte> bytes) noexcept
{
    return crc32c_by_table(state, bytes);
}

OVERMOUNT_DECL bool has_crc32c_instruction() noexcept { return false; }

#endif

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
