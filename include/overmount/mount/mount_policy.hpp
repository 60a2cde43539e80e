#ifndef OVERMOUNT_MOUNT_MOUNT_POLICY_HPP
#define OVERMOUNT_MOUNT_MOUNT_POLICY_HPP

#include <overmount/mount/mount_spec.hpp>
#include <overmount/posix/unique_fd.hpp>

#include <concepts>
#include <string>

namespace overmount::inline OVERMOUNT_ABI {

/// The system calls of mounting, as a stateless type with static functions.
///
/// Guarantees:
/// - `create(spec)` gives a detached mount that vanishes when the last descriptor of it is closed.
/// - `mount(spec, target)` makes the mount visible at `target`, a directory, or leaves no mount behind. It
/// may
///   work where `create` does not.
/// - `unmount(target, false)` returns when the topmost mount at `target` is gone and written back; where it
/// is in
///   use it stays, and the error is `condition::conflict`. `unmount(target, true)` takes it out of sight at
///   once, in use or not. Where nothing is mounted the error is `errc::mount_not_found`.
/// - All throw `overmount::error`; lack of privilege is `condition::permission_denied`.
/// - All may block, may be called from any thread, and keep neither the spec nor its descriptors.
template <class Mount>
concept mount_policy = requires(const mount_spec& spec, const std::string& target, bool detach) {
    { Mount::create(spec) } -> std::same_as<detail::unique_fd>;
    { Mount::mount(spec, target) } -> std::same_as<void>;
    { Mount::unmount(target, detach) } -> std::same_as<void>;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
