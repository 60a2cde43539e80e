#ifndef OVERMOUNT_MOUNT_MOUNT_POLICY_HPP
#define OVERMOUNT_MOUNT_MOUNT_POLICY_HPP

#include <overmount/mount/mount_identity.hpp>
#include <overmount/mount/mount_spec.hpp>
#include <overmount/posix/unique_fd.hpp>

#include <concepts>
#include <optional>
#include <string>

namespace overmount::inline OVERMOUNT_ABI {

/// The system calls of mounting, as a stateless type with static functions.
///
/// Guarantees:
/// - `create(spec)` gives a detached mount that vanishes when the last descriptor of it is closed.
/// - `mount(spec, target)` makes the mount visible at `target`, a directory, and tells its identity, or leaves no mount
///   behind. It may work where `create` does not.
/// - `identify(target)` tells the identity of the topmost mount whose root is at `target`, whoever made it; nullopt where
///   nothing is mounted there.
/// - `unmount(identity, target, detach)` touches that mount alone, wherever it is by now. Without `detach` it returns
///   when the mount is gone and written back; where it is in use it stays, and the error is `condition::conflict`. With
///   `detach` it is taken out of sight at once, in use or not. Where this process does not see it the error is
///   `errc::mount_not_found`, where something else lies on top `errc::mount_covered`. `target` is where it was mounted:
///   a hint, for kernels that tell bind mounts apart by their place only.
/// - `alive(identity, probe)` is false only where it is certain that the mount's superblock is gone, in whatever
///   namespace, and that no overlay uses the upper. What cannot be seen is alive. `probe` has the upper that the mount was
///   given, if any, and as work an empty directory on the same file system, for this call alone; the upper stays as it is.
/// - All throw `overmount::error`; lack of privilege is `condition::permission_denied`.
/// - All may block, may be called from any thread, and keep neither a spec nor its descriptors.
template <class Mount>
concept mount_policy = requires(const mount_spec& spec, const mount_identity& identity, const std::string& target, bool detach) {
    { Mount::create(spec) } -> std::same_as<unique_fd>;
    { Mount::mount(spec, target) } -> std::same_as<mount_identity>;
    { Mount::identify(target) } -> std::same_as<std::optional<mount_identity>>;
    { Mount::unmount(identity, target, detach) } -> std::same_as<void>;
    { Mount::alive(identity, spec) } -> std::same_as<bool>;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
