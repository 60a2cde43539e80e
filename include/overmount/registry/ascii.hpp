#ifndef OVERMOUNT_REGISTRY_ASCII_HPP
#define OVERMOUNT_REGISTRY_ASCII_HPP

#include <overmount/core/config.hpp>

#include <algorithm>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {

// Protocols know the case of ASCII letters only, whatever the locale is.
[[nodiscard]] constexpr char ascii_lower(char c) noexcept
{
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

[[nodiscard]] inline std::string ascii_lower(std::string_view text)
{
    std::string out(text);
    for (char& c : out)
        c = ascii_lower(c);
    return out;
}

[[nodiscard]] inline bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept
{
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return ascii_lower(x) == ascii_lower(y); });
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
