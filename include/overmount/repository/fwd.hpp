// Forward declarations for the handles on a repository. With separate compilation a program sees no more of the implementation.
#ifndef OVERMOUNT_REPOSITORY_FWD_HPP
#define OVERMOUNT_REPOSITORY_FWD_HPP

#include <overmount/exporter/any_exporter.hpp>
#include <overmount/mount/mount_policy.hpp>
#include <overmount/mount/no_mount.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/options.hpp>
#include <overmount/runtime/asio.hpp>
#include <overmount/storage/storage_policy.hpp>

#include <memory>
#include <type_traits>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

template <storage_policy Storage, optional_mount_policy Mount>
class basic_repository;
template <storage_policy Storage, optional_mount_policy Mount>
class basic_image;
template <storage_policy Storage, optional_mount_policy Mount>
class basic_layer;
template <storage_policy Storage, optional_mount_policy Mount>
class basic_mount;
template <packable_storage Storage>
class basic_asset;

class on_disk_storage;
class virtual_storage;
struct overlay_mount;

namespace detail {

#ifdef OVERMOUNT_SEPARATE_COMPILATION
// Defined only by own_policies.hpp.
template <storage_policy Storage>
struct own_policies;
// Whether the bodies for these policies are instantiated: once for the whole program by repository/instances.hpp, or in this
// translation unit.
template <class Storage, class Mount>
inline constexpr bool has_bodies = (std::is_same_v<Storage, on_disk_storage> && std::is_same_v<Mount, overlay_mount>) ||
                                   (std::is_same_v<Storage, virtual_storage> && std::is_same_v<Mount, no_mount>) ||
                                   requires { sizeof(own_policies<Storage>); };
#endif

template <storage_policy Storage>
struct repository_state;

template <packable_storage Storage>
asio::awaitable<void> export_all(std::shared_ptr<repository_state<Storage>> owner,
                                 std::vector<std::shared_ptr<const image_config>> images, any_exporter target,
                                 export_options options);

} // namespace detail
} // namespace overmount::OVERMOUNT_ABI

#endif
