#ifndef OVERMOUNT_STORAGE_SHARE_EXTENTS_HPP
#define OVERMOUNT_STORAGE_SHARE_EXTENTS_HPP

#include <overmount/core/config.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

// Makes the files below `to` share extents with the files at the same paths below `from`, as far as their bytes are equal. The
// kernel compares the bytes itself, so `from` need not be trusted. The content of both trees stays the same. Does nothing if the
// file system has no reflinks or a file cannot be shared, since only disk space is at stake.
void share_extents(int from, int to);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/share_extents.ipp>
#endif

#endif
