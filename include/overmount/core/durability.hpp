#ifndef OVERMOUNT_CORE_DURABILITY_HPP
#define OVERMOUNT_CORE_DURABILITY_HPP

#include <overmount/core/config.hpp>

#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// How hard a repository works for its content to outlive a power cut.
enum class durability : unsigned char
{
    none,  ///< page cache only: for scratch, and for comparison with tools that sync nothing
    batch, ///< one syncfs an import before anything becomes visible
    full,  ///< every file by itself
};

[[nodiscard]] constexpr std::string_view to_string(durability value) noexcept
{
    switch (value) {
    case durability::none:
        return "none";
    case durability::batch:
        return "batch";
    case durability::full:
        return "full";
    }
    return "";
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
