#ifndef OVERMOUNT_MOUNT_NO_MOUNT_HPP
#define OVERMOUNT_MOUNT_NO_MOUNT_HPP

#include <overmount/detail/config.hpp>

namespace overmount::inline OVERMOUNT_ABI {

/// The mount policy of repositories that never mount. It is no model of `mount_policy`, so that to ask such a
/// repository for a mount is an error of the compiler.
struct no_mount
{};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
