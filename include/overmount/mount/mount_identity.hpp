#ifndef OVERMOUNT_MOUNT_MOUNT_IDENTITY_HPP
#define OVERMOUNT_MOUNT_MOUNT_IDENTITY_HPP

#include <overmount/core/config.hpp>

#include <cstdint>
#include <string>

namespace overmount::OVERMOUNT_ABI {

/// Identifies one mount, even after it was moved. Fields that the kernel does not provide are empty or 0.
///
/// *See*: docs/design/mounts.md; statmount(2).
struct mount_identity
{
    mount_identity() = default;

    std::string boot;                  ///< ID of the boot in which it was mounted
    std::uint64_t mount_namespace = 0; ///< inode of the mount namespace in which it was mounted
    std::uint64_t id = 0;              ///< unique mount ID (Linux 6.8), never reused within a boot
    std::uint64_t number = 0;          ///< mount ID in mountinfo; the kernel reuses it
    std::uint64_t device = 0;          ///< device number of its superblock, as from makedev(3); the kernel reuses it
    std::string source;                ///< mount source in mountinfo

    friend bool operator==(const mount_identity&, const mount_identity&) = default;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
