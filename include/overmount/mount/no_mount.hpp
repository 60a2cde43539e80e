#ifndef OVERMOUNT_MOUNT_NO_MOUNT_HPP
#define OVERMOUNT_MOUNT_NO_MOUNT_HPP

#include <overmount/mount/mount_policy.hpp>

namespace overmount::OVERMOUNT_ABI {

/// The mount policy of repositories that never mount. It does not model `mount_policy`, so that mounting with such a
/// repository is a compile error.
struct no_mount
{};

/// What a repository accepts: a mount policy or `no_mount`.
template <class Mount>
concept optional_mount_policy = mount_policy<Mount> || std::same_as<Mount, no_mount>;

} // namespace overmount::OVERMOUNT_ABI

#endif
