#ifndef OVERMOUNT_REPOSITORY_HAS_BODIES_HPP
#define OVERMOUNT_REPOSITORY_HAS_BODIES_HPP

#include <overmount/mount/no_mount.hpp>
#include <overmount/mount/overlay_mount.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>

#include <type_traits>

namespace overmount::inline OVERMOUNT_ABI::detail {

#ifdef OVERMOUNT_SEPARATE_COMPILATION
// Complete where own_policies.hpp was included.
template <storage_policy Storage>
struct own_policies;
// Whether the bodies for these policies are compiled: once for a program, see repository/instances.hpp, or here.
template <class Storage, class Mount>
inline constexpr bool has_bodies = (std::is_same_v<Storage, on_disk_storage> && std::is_same_v<Mount, overlay_mount>) ||
                                   (std::is_same_v<Storage, virtual_storage> && std::is_same_v<Mount, no_mount>) ||
                                   requires { sizeof(own_policies<Storage>); };
#else
template <class Storage, class Mount>
inline constexpr bool has_bodies = true;
#endif

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
