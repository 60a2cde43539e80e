#ifndef OVERMOUNT_MOUNT_OVERLAY_MOUNT_HPP
#define OVERMOUNT_MOUNT_OVERLAY_MOUNT_HPP

#include <overmount/mount/mount_policy.hpp>
#include <overmount/mount/mount_spec.hpp>
#include <overmount/posix/unique_fd.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// Mounts with overlayfs: system calls only.
///
/// *Errors* of all functions, besides those of `mount_spec::validate`: EPERM and EACCES stay errors of the
/// system, so that `condition::permission_denied` matches. Every other refusal to mount is
/// `errc::mount_failed`; its text names the step and the errno, then the likely reason (the kernel seldom
/// gives one), then what the kernel said.
struct overlay_mount
{
    /// A detached mount, by fsopen. Close the descriptor and it is gone.
    ///
    /// Directories are given by descriptor (Linux 6.13), or else by name (6.7).
    /// *Errors*: ENOSYS, as an error of the system, where the kernel is older: `mount_at` is left.
    OVERMOUNT_LAZY [[nodiscard]] static unique_fd create(const mount_spec& spec);

    /// Shows a detached mount at a directory, and makes it private. The path's last part is no symbolic link.
    /// As long as `mount_fd` is open the mount is in use: close it before `unmount`.
    OVERMOUNT_LAZY static void attach(int mount_fd, const std::string& target);
    OVERMOUNT_LAZY static void attach(int mount_fd, int target_fd);

    /// The same as create and attach, by mount(2): for kernels before 6.7. All directories need short paths.
    OVERMOUNT_LAZY static mount_identity mount_at(const mount_spec& spec, const std::string& target);

    /// `create` and `attach`, or else `mount_at`.
    OVERMOUNT_LAZY static mount_identity mount(const mount_spec& spec, const std::string& target);

    /// The topmost mount whose root is at a directory; nullopt where nothing is mounted there.
    OVERMOUNT_LAZY [[nodiscard]] static std::optional<mount_identity> identify(const std::string& target);

    /// Unmounts one mount, wherever it was moved, and nothing else. The kernel takes a path only: what is there is compared
    /// right before the call, and the result after it. In between somebody else may mount on top; that is then gone, and
    /// the error is `errc::unmount_failed`.
    ///
    /// \param target where it was mounted
    /// \param detach take the mount out of sight at once, even if it is in use
    ///
    /// *Errors*: EBUSY, as an error of the system (`condition::conflict`), where it is in use;
    /// `errc::mount_not_found` where this process does not see it; `errc::mount_covered`, with what lies on top;
    /// `errc::unmount_failed`.
    OVERMOUNT_LAZY static void unmount(const mount_identity& identity, const std::string& target, bool detach);

    /// Whether the mount may exist anywhere: see `mount_policy`. Asks ustat(2) for the superblock, and overlayfs for the
    /// upper, which it does not change.
    OVERMOUNT_LAZY [[nodiscard]] static bool alive(const mount_identity& identity, const mount_spec& probe);
};

namespace detail {

// How directories are handed to fsconfig.
enum class directory_form
{
    descriptor,
    text,
};

OVERMOUNT_LAZY [[nodiscard]] unique_fd create_overlay(const mount_spec& spec, directory_form form);

// What a refused descriptor means.
enum class descriptor_refusal
{
    final,       // the directory is bad
    no_fd,       // Linux 6.7 to 6.12: give it as text
    no_lowerdir, // before 6.7
};

// Whether an overlay uses the upper of `probe`, which gives an empty work directory beside it.
enum class upper_use
{
    free,
    busy,
    unknown,
};
OVERMOUNT_LAZY [[nodiscard]] upper_use probe_upper(const mount_spec& probe);

OVERMOUNT_LAZY [[nodiscard]] descriptor_refusal read_refusal(int number, std::string_view log) noexcept;

} // namespace detail

static_assert(mount_policy<overlay_mount>);

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/overlay_mount.ipp>
#endif

#endif
