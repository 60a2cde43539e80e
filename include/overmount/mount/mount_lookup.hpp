// Finds mounts with statmount(2), statx(2) and ustat(2), or with mountinfo where the kernel lacks these.
#ifndef OVERMOUNT_MOUNT_MOUNT_LOOKUP_HPP
#define OVERMOUNT_MOUNT_MOUNT_LOOKUP_HPP

#include <overmount/mount/mount_identity.hpp>
#include <overmount/mount/mountinfo.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// Inode of the mount namespace of this process; 0 if unknown.
[[nodiscard]] std::uint64_t mount_namespace();

// Unique ID of the mount that contains an open directory; 0 if the kernel does not provide it.
[[nodiscard]] std::uint64_t unique_mount_id(int fd) noexcept;
// ID of that mount in mountinfo, which the kernel reuses; 0 if unknown.
[[nodiscard]] std::uint64_t mountinfo_id(int fd);
// True if an open directory is the root of its mount.
[[nodiscard]] bool is_mount_root(int fd);

// The identity of a mount of this boot and namespace, from a descriptor of its root.
[[nodiscard]] mount_identity identity_of(int root, std::string source);

// A mount that is visible to this process.
struct found_mount
{
    std::string path;         // its current mount point
    std::uint64_t number = 0; // its ID in mountinfo
};

// Finds a mount by its unique ID, or else by its number, source, device and namespace; nullopt if it is not visible to this process.
// If the number is unknown and several mounts match (bind mounts of one superblock), returns the one at `hint`, or else the first.
[[nodiscard]] std::optional<found_mount> find_mount(const mount_identity& wanted, const std::string& hint = {});
// True if an open directory lies in the mount that was found.
[[nodiscard]] bool lies_in(int fd, const mount_identity& wanted, const found_mount& found);
// True if the mount that was found is still attached.
[[nodiscard]] bool is_attached(const mount_identity& wanted, const found_mount& found);

// True only if it is certain that no superblock has this device number, in any namespace, mounted or held by a descriptor.
[[nodiscard]] bool superblock_is_gone(std::uint64_t device) noexcept;

// True if a visible mount proves that another superblock has the device number now, by its different source: a mount keeps its
// source when it is moved or bound. Pure function.
[[nodiscard]] bool device_number_was_reused(const mountinfo& now, const mount_identity& wanted) noexcept;

// True if `now` lists all mounts of the namespace: mountinfo leaves out mounts outside the root directory of its reader.
[[nodiscard]] bool lists_all_mounts(const mountinfo& now);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/mount_lookup.ipp>
#endif

#endif
