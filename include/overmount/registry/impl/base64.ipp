#ifndef OVERMOUNT_REGISTRY_IMPL_BASE64_IPP
#define OVERMOUNT_REGISTRY_IMPL_BASE64_IPP

#include <overmount/registry/base64.hpp>

#include <openssl/evp.h>

#include <cstddef>
#include <stdexcept>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// OpenSSL counts in `int`.
inline constexpr std::size_t max_base64_bytes = std::size_t{1} << 30;

inline bool is_base64_digit(char c) noexcept
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

} // namespace detail

OVERMOUNT_DECL std::string base64_encode(std::string_view bytes)
{
    if (bytes.size() > detail::max_base64_bytes)
        throw std::length_error("base64_encode");
    // OpenSSL adds a NUL, which is the one that every string ends with.
    std::string out((bytes.size() + 2) / 3 * 4, '\0');
    ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                      static_cast<int>(bytes.size()));
    return out;
}

OVERMOUNT_DECL std::optional<std::string> base64_decode(std::string_view text)
{
    if (text.size() > detail::max_base64_bytes)
        return std::nullopt;
    // Left to OpenSSL are whole groups of digits: it takes `-` and white space for an end, and counts padding as bytes.
    std::string digits;
    std::size_t padding = 0;
    for (const char c : text) {
        if (c == '\r' || c == '\n')
            continue;
        if (c == '=')
            ++padding;
        else if (padding == 0 && detail::is_base64_digit(c))
            digits += c;
        else
            return std::nullopt;
    }
    const std::size_t bytes = digits.size() * 3 / 4;
    const std::size_t missing = (4 - digits.size() % 4) % 4;
    if (missing == 3 || padding > missing)
        return std::nullopt;
    digits.append(missing, 'A');
    std::string out(digits.size() / 4 * 3, '\0');
    if (::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(digits.data()),
                          static_cast<int>(digits.size())) < 0)
        return std::nullopt;
    out.resize(bytes);
    out.resize(out.find_last_not_of('\0') + 1);
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
