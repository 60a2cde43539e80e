/// Images in registries. Needs OpenSSL's libssl and Boost.Beast besides what `overmount.hpp` needs; with separate compilation
/// only where `overmount/src_registry.hpp` is included.
#ifndef OVERMOUNT_REGISTRY_HPP
#define OVERMOUNT_REGISTRY_HPP

#include <overmount/registry/registry_image.hpp>
#include <overmount/registry/registry_login.hpp>
#include <overmount/registry/registry_options.hpp>

#endif
