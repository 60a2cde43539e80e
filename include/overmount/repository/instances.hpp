// With separate compilation, the templates are compiled once as well, with the arguments that programs mostly use.
// Included last by overmount.hpp; src.hpp asks for the bodies.
#ifndef OVERMOUNT_REPOSITORY_INSTANCES_HPP
#define OVERMOUNT_REPOSITORY_INSTANCES_HPP

#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/oci_layout.hpp>
#include <overmount/repository.hpp>

#ifdef OVERMOUNT_SEPARATE_COMPILATION

#ifdef OVERMOUNT_INSTANTIATE
#define OVERMOUNT_INSTANCE template
#else
#define OVERMOUNT_INSTANCE extern template
#endif

namespace overmount::inline OVERMOUNT_ABI {

OVERMOUNT_INSTANCE class basic_mount<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_image<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_asset<on_disk_storage>;
OVERMOUNT_INSTANCE class basic_repository<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE asio::awaitable<std::vector<image>> repository::import_all(std::shared_ptr<state>, docker_archive,
                                                                              import_options);
OVERMOUNT_INSTANCE asio::awaitable<std::vector<image>> repository::import_all(std::shared_ptr<state>, oci_layout,
                                                                              import_options);
OVERMOUNT_INSTANCE asio::awaitable<image> repository::import_one(std::shared_ptr<state>, docker_archive, import_options);
OVERMOUNT_INSTANCE asio::awaitable<image> repository::import_one(std::shared_ptr<state>, oci_layout, import_options);
OVERMOUNT_INSTANCE asio::awaitable<image_config>
    detail::commit_upper(std::shared_ptr<detail::repository_state<on_disk_storage>>, mount_record, commit_options);

OVERMOUNT_INSTANCE class basic_asset<virtual_storage>;
OVERMOUNT_INSTANCE class basic_repository<virtual_storage, no_mount>;

} // namespace overmount::inline OVERMOUNT_ABI

#undef OVERMOUNT_INSTANCE
#endif

#endif
