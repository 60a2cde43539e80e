#ifndef OVERMOUNT_MOUNT_OVERLAY_MOUNT_HPP
#define OVERMOUNT_MOUNT_OVERLAY_MOUNT_HPP

#include <overmount/mount/mount_policy.hpp>
#include <overmount/mount/mount_spec.hpp>
#include <overmount/posix/unique_fd.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI {

/// Mounts with overlayfs: system calls only.
///
/// *Errors* of all functions, besides those of `mount_spec::validate`: EPERM and EACCES stay system errors, so that
/// `condition::permission_denied` matches. Every other failure to mount is `errc::mount_failed`; its text has the step and the
/// errno, then the likely reason (the kernel seldom gives one), then the kernel's messages.
struct overlay_mount
{
    /// Creates a detached mount with fsopen(2). It disappears when the descriptor is closed.
    ///
    /// Passes directories by descriptor (Linux 6.13), or else by path (6.7).
    /// *Errors*: ENOSYS, as a system error, on older kernels: use `mount_at`.
    [[nodiscard]] static unique_fd create(const mount_spec& spec);

    /// Attaches a detached mount at a directory, and makes it private. The last component of the path must not be a symbolic
    /// link. The mount is in use as long as `mount_fd` is open: close it before `unmount`.
    static void attach(int mount_fd, const std::string& target);
    static void attach(int mount_fd, int target_fd);

    /// Does the same as `create` and `attach` with mount(2), for kernels before 6.7. All directories need short paths.
    static mount_identity mount_at(const mount_spec& spec, const std::string& target);

    /// Mounts with `create` and `attach`, or with `mount_at` on older kernels.
    static mount_identity mount(const mount_spec& spec, const std::string& target);

    /// The identity of the topmost mount whose root is at a directory; nullopt if the directory is not a mount point.
    [[nodiscard]] static std::optional<mount_identity> identify(const std::string& target);

    /// Unmounts one mount, even after it was moved, and no other. umount(2) takes only a path, so the mount at that path is
    /// compared immediately before the call, and the result is checked after it. If another program mounts on top in between,
    /// its mount is unmounted instead, and the error is `errc::unmount_failed`.
    ///
    /// \param target the original mount point
    /// \param detach detach the mount immediately, even if it is in use
    ///
    /// *Errors*: EBUSY, as a system error (`condition::conflict`), if the mount is in use;
    /// `errc::mount_not_found` if this process does not see it; `errc::mount_covered`, with the mount on top of it;
    /// `errc::unmount_failed`.
    static void unmount(const mount_identity& identity, const std::string& target, bool detach);

    /// True if the mount may still exist in any namespace: see `mount_policy`. Asks ustat(2) about the superblock and overlayfs
    /// about the upper directory, without changing it.
    [[nodiscard]] static bool alive(const mount_identity& identity, const mount_spec& probe);
};

namespace detail {

// How directories are passed to fsconfig.
enum class directory_form
{
    descriptor,
    text,
};

[[nodiscard]] unique_fd create_overlay(const mount_spec& spec, directory_form form);

// Why fsconfig refused a descriptor.
enum class descriptor_refusal
{
    final,       // the directory cannot be used
    no_fd,       // Linux 6.7 to 6.12: pass the directory as text
    no_lowerdir, // before 6.7: the option lowerdir+ is unknown
};

// Whether an overlay uses the upper directory of `probe`. `probe` also has an empty work directory on the same file system.
enum class upper_use
{
    free,
    busy,
    unknown,
};
[[nodiscard]] upper_use probe_upper(const mount_spec& probe);

[[nodiscard]] descriptor_refusal read_refusal(int number, std::string_view log) noexcept;

} // namespace detail

static_assert(mount_policy<overlay_mount>);

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/overlay_mount.ipp>
#endif

#endif
