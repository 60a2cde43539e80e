// With separate compilation, for a program with a storage or mount policy of its own, beside overmount.hpp: the bodies of
// the operations, which are compiled for it. Header-only there is nothing that it adds.
#ifndef OVERMOUNT_OWN_POLICIES_HPP
#define OVERMOUNT_OWN_POLICIES_HPP

#include <overmount/repository.hpp>

#include <overmount/repository/impl/asset.ipp>
#include <overmount/repository/impl/image.ipp>
#include <overmount/repository/impl/layer.ipp>
#include <overmount/repository/impl/repository.ipp>
#include <overmount/repository/impl/space.ipp>

#ifdef OVERMOUNT_SEPARATE_COMPILATION
namespace overmount::inline OVERMOUNT_ABI::detail {

template <storage_policy Storage>
struct own_policies
{
};

} // namespace overmount::inline OVERMOUNT_ABI::detail
#endif

#endif
