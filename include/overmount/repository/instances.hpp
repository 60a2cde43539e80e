// With separate compilation, the templates are compiled once as well, with the arguments that programs mostly use.
// Included last by overmount.hpp; src.hpp asks for the bodies.
#ifndef OVERMOUNT_REPOSITORY_INSTANCES_HPP
#define OVERMOUNT_REPOSITORY_INSTANCES_HPP

#include <overmount/repository.hpp>

#ifdef OVERMOUNT_SEPARATE_COMPILATION

#ifdef OVERMOUNT_INSTANTIATE
#define OVERMOUNT_INSTANTIATE_ON_DISK
#define OVERMOUNT_INSTANTIATE_VIRTUAL
#endif
#ifdef OVERMOUNT_INSTANTIATE_ON_DISK
#define OVERMOUNT_INSTANCE template
#else
#define OVERMOUNT_INSTANCE extern template
#endif

namespace overmount::inline OVERMOUNT_ABI {

OVERMOUNT_INSTANCE class basic_mount<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_image<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_layer<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_asset<on_disk_storage>;
OVERMOUNT_INSTANCE class basic_space<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_repository<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE asio::awaitable<void>
    detail::export_all(std::shared_ptr<detail::repository_state<on_disk_storage>>,
                       std::vector<std::shared_ptr<const image_config>>, detail::any_exporter, export_options);

#undef OVERMOUNT_INSTANCE
// Clang 14 instantiates members whose constraints are not met, such as mount(): with it each file that uses a virtual
// repository compiles what it calls.
#if defined(__clang__) && __clang_major__ < 15
#define OVERMOUNT_NO_INSTANCE
#elif defined(OVERMOUNT_INSTANTIATE_VIRTUAL)
#define OVERMOUNT_INSTANCE template
#else
#define OVERMOUNT_INSTANCE extern template
#endif

#ifndef OVERMOUNT_NO_INSTANCE
OVERMOUNT_INSTANCE class basic_image<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE class basic_layer<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE class basic_asset<virtual_storage>;
OVERMOUNT_INSTANCE class basic_space<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE class basic_repository<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE asio::awaitable<void>
    detail::export_all(std::shared_ptr<detail::repository_state<virtual_storage>>,
                       std::vector<std::shared_ptr<const image_config>>, detail::any_exporter, export_options);
#endif

} // namespace overmount::inline OVERMOUNT_ABI

#ifdef OVERMOUNT_NO_INSTANCE
#include <overmount/repository/impl/asset.ipp>
#include <overmount/repository/impl/image.ipp>
#include <overmount/repository/impl/repository.ipp>
#include <overmount/repository/impl/space.ipp>
#undef OVERMOUNT_NO_INSTANCE
#else
#undef OVERMOUNT_INSTANCE
#endif

#endif

#endif
