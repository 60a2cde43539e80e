#ifndef OVERMOUNT_REGISTRY_SHORT_NAME_HPP
#define OVERMOUNT_REGISTRY_SHORT_NAME_HPP

#include <overmount/oci/reference.hpp>
#include <overmount/registry/settings/registries_conf.hpp>

#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// The images that a name may mean, in the order in which to try them. A name that states its domain means one. For another, an alias of
/// registries.conf counts, then its search registries; without either the image is in docker.io.
///
/// Throws `error` with `errc::invalid_reference` if the name is not valid, or has several search registries while `short-name-mode` is
/// `enforcing`: nobody is asked here. See containers-registries.conf(5).
[[nodiscard]] std::vector<reference> references_for(std::string_view name, const registries_conf& conf);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/short_name.ipp>
#endif

#endif
