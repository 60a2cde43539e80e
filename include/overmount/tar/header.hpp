#ifndef OVERMOUNT_TAR_HEADER_HPP
#define OVERMOUNT_TAR_HEADER_HPP

#include <overmount/core/config.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::tar {

inline constexpr std::size_t block_size = 512;

/// One header block: its fields by their place. See POSIX pax, "ustar Interchange Format", and the GNU tar
/// manual, "Basic Tar Format".
class header
{
public:
    /// \pre `block.size() == 512`; the bytes outlive this.
    explicit header(std::span<const std::byte> block) noexcept
        : text_(reinterpret_cast<const char*>(block.data()), block.size())
    {
    }

    /// The field up to its first NUL.
    [[nodiscard]] std::string_view string(std::size_t offset, std::size_t size) const noexcept
    {
        const std::string_view field = text_.substr(offset, size);
        return field.substr(0, field.find('\0'));
    }
    /// A number, octal with blanks or NULs around it, or base-256; nothing for anything else.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::int64_t> number(std::size_t offset, std::size_t size) const noexcept;

    [[nodiscard]] std::string_view name() const noexcept { return string(0, 100); }
    [[nodiscard]] std::string_view link_name() const noexcept { return string(157, 100); }
    [[nodiscard]] std::string_view prefix() const noexcept { return string(345, 155); }
    [[nodiscard]] char type() const noexcept { return text_[156]; }
    [[nodiscard]] bool posix() const noexcept { return text_.substr(257, 6) == std::string_view("ustar\0", 6); }
    [[nodiscard]] bool gnu() const noexcept { return text_.substr(257, 8) == std::string_view("ustar  \0", 8); }
    [[nodiscard]] bool zero() const noexcept { return text_.find_first_not_of('\0') == std::string_view::npos; }
    /// Whether the checksum is right, as a sum of unsigned or of signed bytes.
    OVERMOUNT_LAZY [[nodiscard]] bool checksum_matches() const noexcept;
    [[nodiscard]] char at(std::size_t offset) const noexcept { return text_[offset]; }

private:
    std::string_view text_;
};

/// A decimal number of a PAX record; nothing unless all of `text` is one that fits.
OVERMOUNT_LAZY [[nodiscard]] std::optional<std::uint64_t> parse_decimal(std::string_view text) noexcept;
/// The bytes of `text`, in which `%XX` stands for a byte; nothing when a `%` stands for none.
OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> decode_percent(std::string_view text);
/// The bytes that `text` gives in base64, with padding or without; nothing unless all of it does.
OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> decode_base64(std::string_view text);

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/header.ipp>
#endif

#endif
