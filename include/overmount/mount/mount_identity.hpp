#ifndef OVERMOUNT_MOUNT_MOUNT_IDENTITY_HPP
#define OVERMOUNT_MOUNT_MOUNT_IDENTITY_HPP

#include <overmount/core/config.hpp>

#include <cstdint>
#include <string>

namespace overmount::inline OVERMOUNT_ABI {

/// What tells one mount from all others, wherever it is moved. Fields that the kernel does not give are empty or 0.
///
/// *See*: docs/design/mounts.md; statmount(2).
struct mount_identity
{
    mount_identity() = default;

    std::string boot;                  ///< the boot in which it was made
    std::uint64_t mount_namespace = 0; ///< inode of the mount namespace in which it was made
    std::uint64_t id = 0;              ///< unique mount ID (Linux 6.8), used once in a boot
    std::uint64_t number = 0;          ///< what mountinfo calls it; used again later
    std::uint64_t device = 0;          ///< device number of its superblock, as makedev(3) makes it; used again later
    std::string source;                ///< what mountinfo shows as its source

    friend bool operator==(const mount_identity&, const mount_identity&) = default;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
