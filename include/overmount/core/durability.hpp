#ifndef OVERMOUNT_CORE_DURABILITY_HPP
#define OVERMOUNT_CORE_DURABILITY_HPP

#include <overmount/core/config.hpp>

#include <string_view>

namespace overmount::OVERMOUNT_ABI {

/// How a repository makes its content durable, so that it survives a power cut.
enum class durability : unsigned char
{
    none,  ///< never syncs: for scratch repositories, and for comparison with tools that do not sync
    batch, ///< one syncfs for each import, before anything becomes visible
    full,  ///< one fsync for each file
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

} // namespace overmount::OVERMOUNT_ABI

#endif
