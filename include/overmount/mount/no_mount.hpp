#ifndef OVERMOUNT_MOUNT_NO_MOUNT_HPP
#define OVERMOUNT_MOUNT_NO_MOUNT_HPP

#include <overmount/mount/mount_policy.hpp>

namespace overmount::inline OVERMOUNT_ABI {

/// The mount policy of repositories that never mount. It is no model of `mount_policy`, so that to ask such a
/// repository for a mount is an error of the compiler.
struct no_mount
{};

/// What a repository takes: a mount policy, or none.
template <class Mount>
concept optional_mount_policy = mount_policy<Mount> || std::same_as<Mount, no_mount>;

} // namespace overmount::inline OVERMOUNT_ABI

#endif
