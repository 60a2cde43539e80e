#ifndef OVERMOUNT_MOUNT_MOUNTINFO_HPP
#define OVERMOUNT_MOUNT_MOUNTINFO_HPP

#include <overmount/core/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// One mount as the kernel lists it. Text is decoded: a blank is a blank, not `\040`.
struct mountinfo_entry
{
    std::uint64_t id = 0;
    std::uint64_t parent_id = 0;
    std::uint64_t device = 0;         ///< of the superblock, as makedev(3) makes it
    std::string root;                 ///< the directory of the file system that is mounted
    std::string mount_point;          ///< as seen from the root of this process
    std::vector<std::string> options; ///< of the mount: `ro`, `nosuid`
    std::string fs_type;
    std::string source;
    std::vector<std::string> super_options; ///< of the file system: `lowerdir+=/a`
};

/// The mounts of a mount namespace at one moment.
/// See proc_pid_mountinfo(5).
class mountinfo
{
public:
    /// Reads the text of a mountinfo file. Lines that are not understood are left out.
    OVERMOUNT_LAZY [[nodiscard]] static mountinfo parse(std::string_view text);
    /// The mounts that this process sees. *Errors*: errno values; `EFBIG` for more than 256 MiB of text.
    OVERMOUNT_LAZY [[nodiscard]] static mountinfo read();

    /// In the kernel's order.
    [[nodiscard]] const std::vector<mountinfo_entry>& entries() const noexcept { return entries_; }
    /// The latest mount with that source; nullptr where there is none. Valid as long as this object.
    OVERMOUNT_LAZY [[nodiscard]] const mountinfo_entry* find_by_source(std::string_view source) const noexcept;
    /// The latest, and so the topmost, mount at that path; nullptr where there is none.
    /// \param path absolute, without symbolic links, `.`, `..` and trailing slashes
    OVERMOUNT_LAZY [[nodiscard]] const mountinfo_entry* find_by_target(std::string_view path) const noexcept;
    OVERMOUNT_LAZY [[nodiscard]] const mountinfo_entry* find_by_id(std::uint64_t id) const noexcept;

private:
    std::vector<mountinfo_entry> entries_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/mountinfo.ipp>
#endif

#endif
