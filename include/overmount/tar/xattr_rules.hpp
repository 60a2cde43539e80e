#ifndef OVERMOUNT_TAR_XATTR_RULES_HPP
#define OVERMOUNT_TAR_XATTR_RULES_HPP

#include <overmount/tar/entry.hpp>

#include <string_view>

namespace overmount::OVERMOUNT_ABI::tar {

/// Whether an extended attribute of an archive is stored on disk. The attributes of overlay file systems never are: with them
/// a layer could pose as an overlay's upper directory. Neither are labels that only the host may set.
[[nodiscard]] constexpr bool stores_xattr(std::string_view name, entry_type type) noexcept
{
    const bool file_or_directory = type == entry_type::regular || type == entry_type::directory;
    for (const std::string_view prefix : {"user.overlay.", "user.fuseoverlayfs.", "user.containers."})
        if (name.starts_with(prefix))
            return false;
    if (name.starts_with("user."))
        return file_or_directory && name != "user.rootlesscontainers";
    if (name == "security.capability")
        return type == entry_type::regular;
    if (name == "system.posix_acl_default")
        return type == entry_type::directory;
    return name == "system.posix_acl_access" && type != entry_type::symbolic_link;
}

/// The order in which attributes are set. File capabilities come last: writing data or changing the owner removes them.
[[nodiscard]] constexpr int xattr_order(std::string_view name) noexcept
{
    if (name == "system.posix_acl_access")
        return 0;
    return name == "security.capability" ? 2 : 1;
}

} // namespace overmount::OVERMOUNT_ABI::tar

#endif
