// What the handles on a repository are made of, declared only: a program with separate compilation sees no more of it.
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

namespace overmount::inline OVERMOUNT_ABI {

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
// Complete where own_policies.hpp was included.
template <storage_policy Storage>
struct own_policies;
// Whether the bodies for these policies are compiled: once for a program, see repository/instances.hpp, or here.
template <class Storage, class Mount>
inline constexpr bool has_bodies = (std::is_same_v<Storage, on_disk_storage> && std::is_same_v<Mount, overlay_mount>) ||
                                   (std::is_same_v<Storage, virtual_storage> && std::is_same_v<Mount, no_mount>) ||
                                   requires { sizeof(own_policies<Storage>); };
#endif

template <storage_policy Storage>
struct repository_state;
template <storage_policy Storage>
class create_run;

template <packable_storage Storage>
asio::awaitable<void> export_all(std::shared_ptr<repository_state<Storage>> owner,
                                 std::vector<std::shared_ptr<const image_config>> images, any_exporter target,
                                 export_options options);

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

#endif
