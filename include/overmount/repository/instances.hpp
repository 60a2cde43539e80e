// With separate compilation, the templates are instantiated once for the policies that most programs use. overmount.hpp includes this
// last; src.hpp requests the instantiations.
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

namespace overmount::OVERMOUNT_ABI {

OVERMOUNT_INSTANCE class basic_mount<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_image<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_layer<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_asset<on_disk_storage>;
OVERMOUNT_INSTANCE class basic_space<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_integrity<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE class basic_repository<on_disk_storage, overlay_mount>;
OVERMOUNT_INSTANCE asio::awaitable<void>
    detail::export_all(std::shared_ptr<detail::repository_state<on_disk_storage>>,
                       std::vector<std::shared_ptr<const image_config>>, any_exporter, export_options);
OVERMOUNT_INSTANCE asio::awaitable<void> detail::operation(asio::awaitable<void>);
OVERMOUNT_INSTANCE asio::awaitable<check_report> detail::operation(asio::awaitable<check_report>);
OVERMOUNT_INSTANCE asio::awaitable<basic_image<on_disk_storage, overlay_mount>>
    detail::operation(asio::awaitable<basic_image<on_disk_storage, overlay_mount>>);
OVERMOUNT_INSTANCE asio::awaitable<std::vector<basic_image<on_disk_storage, overlay_mount>>>
    detail::operation(asio::awaitable<std::vector<basic_image<on_disk_storage, overlay_mount>>>);

#undef OVERMOUNT_INSTANCE
// Clang 14 instantiates members whose constraints are not met, such as mount(). With it, each translation unit that uses a virtual
// repository compiles the members that it calls.
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
OVERMOUNT_INSTANCE class basic_integrity<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE class basic_repository<virtual_storage, no_mount>;
OVERMOUNT_INSTANCE asio::awaitable<void>
    detail::export_all(std::shared_ptr<detail::repository_state<virtual_storage>>,
                       std::vector<std::shared_ptr<const image_config>>, any_exporter, export_options);
OVERMOUNT_INSTANCE asio::awaitable<basic_image<virtual_storage, no_mount>>
    detail::operation(asio::awaitable<basic_image<virtual_storage, no_mount>>);
OVERMOUNT_INSTANCE asio::awaitable<std::vector<basic_image<virtual_storage, no_mount>>>
    detail::operation(asio::awaitable<std::vector<basic_image<virtual_storage, no_mount>>>);
#endif

} // namespace overmount::OVERMOUNT_ABI

#ifdef OVERMOUNT_NO_INSTANCE
#include <overmount/repository/impl/asset.ipp>
#include <overmount/repository/impl/image.ipp>
#include <overmount/repository/impl/integrity.ipp>
#include <overmount/repository/impl/layer.ipp>
#include <overmount/repository/impl/repository.ipp>
#include <overmount/repository/impl/space.ipp>
#undef OVERMOUNT_NO_INSTANCE
#else
#undef OVERMOUNT_INSTANCE
#endif

#endif

#endif
