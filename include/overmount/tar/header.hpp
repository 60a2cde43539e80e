#ifndef OVERMOUNT_TAR_HEADER_HPP
#define OVERMOUNT_TAR_HEADER_HPP

#include <overmount/core/config.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::tar {

inline constexpr std::size_t block_size = 512;

/// View of one header block; reads its fields by their offsets. See POSIX pax, "ustar Interchange Format", and the
/// GNU tar manual, "Basic Tar Format".
class header
{
public:
    /// \pre `block.size() == 512`; the bytes must outlive this object.
    explicit header(std::span<const std::byte> block) noexcept
        : text_(reinterpret_cast<const char*>(block.data()), block.size())
    {
    }

    /// The text of a field, up to its first NUL.
    [[nodiscard]] std::string_view string(std::size_t offset, std::size_t size) const noexcept
    {
        const std::string_view field = text_.substr(offset, size);
        return field.substr(0, field.find('\0'));
    }
    /// A number in octal with blanks or NULs around it (0 if it has no digits), or in base-256; nullopt for anything else.
    [[nodiscard]] std::optional<std::int64_t> number(std::size_t offset, std::size_t size) const noexcept;

    [[nodiscard]] std::string_view name() const noexcept { return string(0, 100); }
    [[nodiscard]] std::string_view link_name() const noexcept { return string(157, 100); }
    [[nodiscard]] std::string_view prefix() const noexcept { return string(345, 155); }
    [[nodiscard]] char type() const noexcept { return text_[156]; }
    [[nodiscard]] bool posix() const noexcept { return text_.substr(257, 6) == std::string_view("ustar\0", 6); }
    [[nodiscard]] bool gnu() const noexcept { return text_.substr(257, 8) == std::string_view("ustar  \0", 8); }
    [[nodiscard]] bool zero() const noexcept { return text_.find_first_not_of('\0') == std::string_view::npos; }
    /// Whether the checksum is correct, computed over unsigned or over signed bytes.
    [[nodiscard]] bool checksum_matches() const noexcept;
    [[nodiscard]] char at(std::size_t offset) const noexcept { return text_[offset]; }

private:
    std::string_view text_;
};

/// Parses a decimal number of a PAX record; nullopt unless all of `text` is digits and the value fits in 63 bits.
[[nodiscard]] std::optional<std::uint64_t> parse_decimal(std::string_view text) noexcept;
/// Decodes percent-encoding (`%XX`); nullopt when two hex digits do not follow a `%`.
[[nodiscard]] std::optional<std::string> decode_percent(std::string_view text);
/// Decodes base64, with padding or without; nullopt unless all of `text` is valid.
[[nodiscard]] std::optional<std::string> decode_base64(std::string_view text);

} // namespace overmount::OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/header.ipp>
#endif

#endif
