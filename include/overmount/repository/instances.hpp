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
#ifdef OVERMOUNT_INSTANTIATE_VIRTUAL
#define OVERMOUNT_INSTANCE template
#else
#define OVERMOUNT_INSTANCE extern template
#endif

OVERMOUNT_INSTANCE class basic_image<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE class basic_layer<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE class basic_asset<virtual_storage>;
OVERMOUNT_INSTANCE class basic_space<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE class basic_repository<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE asio::awaitable<void>
    detail::export_all(std::shared_ptr<detail::repository_state<virtual_storage>>,
                       std::vector<std::shared_ptr<const image_config>>, detail::any_exporter, export_options);

} // namespace overmount::inline OVERMOUNT_ABI

#undef OVERMOUNT_INSTANCE
#endif

#endif
