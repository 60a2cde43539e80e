#ifndef OVERMOUNT_STORAGE_SHARE_EXTENTS_HPP
#define OVERMOUNT_STORAGE_SHARE_EXTENTS_HPP

#include <overmount/core/config.hpp>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Lets the files below `to` share their extents with those at the same paths below `from`, as far as both have the same bytes:
// the kernel compares them itself, so nothing has to be believed of `from`. The trees stay two, and what they hold stays the same.
// Where the file system has no reflinks, or a file is not to be shared, nothing is done: only space is at stake.
OVERMOUNT_LAZY void share_extents(int from, int to);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/share_extents.ipp>
#endif

#endif
