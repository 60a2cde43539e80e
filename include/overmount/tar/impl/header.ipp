#ifndef OVERMOUNT_TAR_IMPL_HEADER_IPP
#define OVERMOUNT_TAR_IMPL_HEADER_IPP

#include <overmount/tar/header.hpp>

#include <charconv>
#include <limits>

namespace overmount::OVERMOUNT_ABI::tar {
namespace detail {

// A base-256 number: two's complement, big endian; the first bit only marks the encoding.
inline std::optional<std::int64_t> base_256(std::string_view field) noexcept
{
    const bool negative = (static_cast<unsigned char>(field[0]) & 0x40) != 0;
    std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = 0; i < field.size(); ++i) {
        auto byte = static_cast<unsigned char>(field[i]);
        if (i == 0)
            byte = static_cast<unsigned char>(negative ? byte | 0x80 : byte & 0x7f);
        // Only copies of the sign bit may be shifted out.
        if ((value >> 55) != (negative ? 0x1ff : 0))
            return std::nullopt;
        value = (value << 8) | byte;
    }
    return static_cast<std::int64_t>(value);
}

} // namespace detail

OVERMOUNT_DECL std::optional<std::int64_t> header::number(std::size_t offset, std::size_t size) const noexcept
{
    std::string_view field = text_.substr(offset, size);
    if ((static_cast<unsigned char>(field[0]) & 0x80) != 0)
        return detail::base_256(field);
    const auto blank = std::string_view(" \0", 2);
    const auto begin = field.find_first_not_of(blank);
    if (begin == std::string_view::npos)
        return 0;
    field.remove_prefix(begin);
    const std::string_view digits = field.substr(0, field.find_first_of(blank));
    if (field.substr(digits.size()).find_first_not_of(blank) != std::string_view::npos)
        return std::nullopt;
    std::int64_t value = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
    if (problem != std::errc() || end != digits.data() + digits.size() || value < 0)
        return std::nullopt;
    return value;
}

OVERMOUNT_DECL bool header::checksum_matches() const noexcept
{
    constexpr std::size_t field = 148, field_end = 156; // the checksum itself, which counts as blanks
    const auto wanted = number(field, field_end - field);
    if (!wanted)
        return false;
    // No branch in the loop, so that the compiler can vectorise it.
    std::uint32_t sum = 0, negative = 0;
    for (std::size_t i = 0; i < block_size; ++i) {
        const auto byte = static_cast<unsigned char>(text_[i]);
        sum += byte;
        negative += byte >> 7;
    }
    for (std::size_t i = field; i < field_end; ++i) {
        const auto byte = static_cast<unsigned char>(text_[i]);
        sum += static_cast<std::uint32_t>(' ') - byte;
        negative -= byte >> 7;
    }
    return *wanted == std::int64_t{sum} || *wanted == std::int64_t{sum} - 256 * std::int64_t{negative};
}

OVERMOUNT_DECL std::optional<std::uint64_t> parse_decimal(std::string_view text) noexcept
{
    std::uint64_t value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value, 10);
    if (problem != std::errc() || end != text.data() + text.size() || text.empty() ||
        value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return std::nullopt;
    return value;
}

OVERMOUNT_DECL std::optional<std::string> decode_percent(std::string_view text)
{
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        const std::string_view digits = text.substr(i + 1, 2);
        unsigned value = 0;
        const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
        if (digits.size() != 2 || problem != std::errc() || end != digits.data() + 2)
            return std::nullopt;
        out += static_cast<char>(value);
        i += 2;
    }
    return out;
}

OVERMOUNT_DECL std::optional<std::string> decode_base64(std::string_view text)
{
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (text.size() % 4 == 0)
        for (int padding = 0; padding < 2 && text.ends_with('='); ++padding)
            text.remove_suffix(1);
    std::string out;
    std::uint32_t bits = 0;
    unsigned count = 0;
    for (const char c : text) {
        const auto digit = digits.find(c);
        if (digit == std::string_view::npos)
            return std::nullopt;
        bits = (bits << 6) | static_cast<std::uint32_t>(digit);
        count += 6;
        if (count >= 8) {
            count -= 8;
            out += static_cast<char>((bits >> count) & 0xff);
        }
    }
    // Refuse a last digit that completes no byte, and unused bits that are not zero.
    if (count == 6 || (bits & ((1u << count) - 1)) != 0)
        return std::nullopt;
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::tar

#endif
