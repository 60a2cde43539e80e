// Finds mounts by what the kernel says of them: statmount(2), statx(2) and ustat(2), or else mountinfo.
#ifndef OVERMOUNT_MOUNT_MOUNT_LOOKUP_HPP
#define OVERMOUNT_MOUNT_MOUNT_LOOKUP_HPP

#include <overmount/mount/mount_identity.hpp>
#include <overmount/mount/mountinfo.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Inode of the mount namespace of this process; 0 where it cannot be told.
OVERMOUNT_LAZY [[nodiscard]] std::uint64_t mount_namespace();

// The unique ID of the mount that an open directory lies in; 0 where the kernel refuses.
OVERMOUNT_LAZY [[nodiscard]] std::uint64_t unique_mount_id(int fd) noexcept;
// The number that mountinfo has for it; numbers are used again. 0 where it cannot be told.
OVERMOUNT_LAZY [[nodiscard]] std::uint64_t mountinfo_id(int fd);
// Whether an open directory is the root of its mount.
OVERMOUNT_LAZY [[nodiscard]] bool is_mount_root(int fd);

// The identity of the mount whose root is open, made in this boot and namespace.
OVERMOUNT_LAZY [[nodiscard]] mount_identity identity_of(int root, std::string source);

// A mount that this process sees.
struct found_mount
{
    std::string path;            // where it is now
    std::uint64_t number = 0; // in mountinfo
};

// By unique ID, or else by number, source, device and namespace; nullopt where this process does not see it. Where the number
// is not known either, of several (bind mounts of one) the one at `likely`, or else the first.
OVERMOUNT_LAZY [[nodiscard]] std::optional<found_mount> find_mount(const mount_identity& wanted, const std::string& likely = {});
// Whether an open directory lies in the mount that was found.
OVERMOUNT_LAZY [[nodiscard]] bool lies_in(int fd, const mount_identity& wanted, const found_mount& found);
// Whether the found mount is attached still.
OVERMOUNT_LAZY [[nodiscard]] bool is_attached(const mount_identity& wanted, const found_mount& found);

// True only where it is certain that no superblock has the number, in whatever namespace and however it is held.
OVERMOUNT_LAZY [[nodiscard]] bool superblock_is_gone(std::uint64_t device) noexcept;

// Whether a mount in sight shows that another superblock has the device number by now: its source is another one, which a mount
// keeps wherever it is moved or bound. Pure.
OVERMOUNT_LAZY [[nodiscard]] bool number_is_anothers(const mountinfo& now, const mount_identity& wanted) noexcept;

// Whether `now` has all mounts of the namespace: mountinfo leaves out what lies outside of the root of its reader.
OVERMOUNT_LAZY [[nodiscard]] bool shows_all(const mountinfo& now);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/mount_lookup.ipp>
#endif

#endif
