#ifndef OVERMOUNT_MOUNT_MOUNT_POLICY_HPP
#define OVERMOUNT_MOUNT_MOUNT_POLICY_HPP

#include <overmount/mount/mount_identity.hpp>
#include <overmount/mount/mount_spec.hpp>
#include <overmount/posix/unique_fd.hpp>

#include <concepts>
#include <optional>
#include <string>

namespace overmount::OVERMOUNT_ABI {

/// The system calls of mounting, as a stateless type with static functions.
///
/// Guarantees:
/// - `create(spec)` returns a detached mount, which disappears when its last descriptor is closed.
/// - `mount(spec, target)` mounts at the directory `target` and returns the identity of the mount; if it fails, it leaves no
///   mount behind. It may work on kernels where `create` does not.
/// - `identify(target)` returns the identity of the topmost mount whose root is at `target`, even if another program mounted
///   it; nullopt if `target` is not a mount point.
/// - `unmount(identity, target, detach)` unmounts only the mount with that identity, even after it was moved. Without `detach` it
///   returns when the mount is gone and its data is written back; a mount that is in use stays, and the error is
///   `condition::conflict`. With `detach` it is detached immediately, even if it is in use. The error is `errc::mount_not_found`
///   if this process does not see the mount, and `errc::mount_covered` if another mount is on top of it. `target` is the
///   original mount point: a hint for kernels on which bind mounts differ only by their mount points.
/// - `alive(identity, probe)` is false only if it is certain that the mount's superblock is gone in every namespace and that
///   no overlay uses the upper directory. A mount that cannot be seen counts as alive. `probe` has the mount's upper directory, if
///   any, and as work directory an empty directory on the same file system, for this call only. The upper is not changed.
/// - All functions throw `overmount::error`; lack of privilege is `condition::permission_denied`.
/// - All functions may block, may be called from any thread, and keep neither a spec nor its descriptors.
template <class Mount>
concept mount_policy = requires(const mount_spec& spec, const mount_identity& identity, const std::string& target, bool detach) {
    { Mount::create(spec) } -> std::same_as<unique_fd>;
    { Mount::mount(spec, target) } -> std::same_as<mount_identity>;
    { Mount::identify(target) } -> std::same_as<std::optional<mount_identity>>;
    { Mount::unmount(identity, target, detach) } -> std::same_as<void>;
    { Mount::alive(identity, spec) } -> std::same_as<bool>;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
