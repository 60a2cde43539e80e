#ifndef OVERMOUNT_MOUNT_MOUNTINFO_HPP
#define OVERMOUNT_MOUNT_MOUNTINFO_HPP

#include <overmount/core/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// One line of mountinfo. Text is decoded: a space is a space, not `\040`.
struct mountinfo_entry
{
    std::uint64_t id = 0;
    std::uint64_t parent_id = 0;
    std::uint64_t device = 0;         ///< device number of the superblock, as from makedev(3)
    std::string root;                 ///< the directory of the file system that is mounted
    std::string mount_point;          ///< relative to the root directory of this process
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
    /// Parses the text of a mountinfo file. Skips lines that it cannot parse.
    [[nodiscard]] static mountinfo parse(std::string_view text);
    /// Reads `/proc/self/mountinfo`. *Errors*: errno values; `EFBIG` for more than 256 MiB of text.
    [[nodiscard]] static mountinfo read();

    /// In the kernel's order.
    [[nodiscard]] const std::vector<mountinfo_entry>& entries() const noexcept { return entries_; }
    /// The latest and therefore topmost mount at a path; nullptr if there is none. Valid as long as this object.
    /// \param path absolute, without symbolic links, `.`, `..` or trailing slashes
    [[nodiscard]] const mountinfo_entry* find_by_target(std::string_view path) const noexcept;
    [[nodiscard]] const mountinfo_entry* find_by_id(std::uint64_t id) const noexcept;

private:
    std::vector<mountinfo_entry> entries_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/mountinfo.ipp>
#endif

#endif
