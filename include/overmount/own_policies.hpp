// For programs with their own storage or mount policy: with separate compilation, include this in addition to overmount.hpp. It has
// the bodies of the operations, which are instantiated for the policy. Header-only programs do not need it.
#ifndef OVERMOUNT_OWN_POLICIES_HPP
#define OVERMOUNT_OWN_POLICIES_HPP

#include <overmount/repository.hpp>

#include <overmount/repository/impl/asset.ipp>
#include <overmount/repository/impl/image.ipp>
#include <overmount/repository/impl/integrity.ipp>
#include <overmount/repository/impl/layer.ipp>
#include <overmount/repository/impl/repository.ipp>
#include <overmount/repository/impl/space.ipp>

#ifdef OVERMOUNT_SEPARATE_COMPILATION
namespace overmount::OVERMOUNT_ABI::detail {

template <storage_policy Storage>
struct own_policies
{
};

} // namespace overmount::OVERMOUNT_ABI::detail
#endif

#endif
