#include <overmount/codec/crc32c.hpp>

#include "support/catch.hpp"

#include <string>

namespace {

namespace detail = overmount::detail;

std::uint32_t sum_of(std::string_view text)
{
    detail::crc32c out;
    out.update(std::as_bytes(std::span(text)));
    return out.value();
}

std::string noise(std::size_t size)
{
    std::string out;
    for (std::uint32_t state = 1; out.size() < size; state = state * 1664525 + 1013904223)
        out += static_cast<char>(state >> 24);
    return out;
}

TEST_CASE("CRC-32C has the values of RFC 3720, B.4")
{
    CHECK(sum_of("") == 0);
    CHECK(sum_of("123456789") == 0xe3069283);
    CHECK(sum_of(std::string(32, '\0')) == 0x8a9136aa);
    CHECK(sum_of(std::string(32, '\xff')) == 0x62a8ab43);
    std::string ascending;
    for (char i = 0; i < 32; ++i)
        ascending += i;
    CHECK(sum_of(ascending) == 0x46dd794e);
}

TEST_CASE("the instruction and the table compute the same CRC, for any length and alignment")
{
    if (!detail::has_crc32c_instruction())
        return;
    const std::string text = noise(20'000);
    const auto bytes = std::as_bytes(std::span(text));
    for (std::size_t size = 0; size <= 10'000; size += size < 64 ? 1 : 509) {
        const auto part = bytes.subspan(size % 13, size);
        CHECK(detail::crc32c_by_instruction(~0u, part) == detail::crc32c_by_table(~0u, part));
    }
}

TEST_CASE("a CRC does not depend on how the bytes are split")
{
    const std::string text = noise(10'000);
    for (const std::size_t piece : {1u, 7u, 3072u, 4097u}) {
        detail::crc32c out;
        for (std::size_t at = 0; at < text.size(); at += piece)
            out.update(std::as_bytes(std::span(text)).subspan(at, std::min(piece, text.size() - at)));
        CHECK(out.value() == sum_of(text));
    }
}

} // namespace
