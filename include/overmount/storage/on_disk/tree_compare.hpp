#ifndef OVERMOUNT_STORAGE_ON_DISK_TREE_COMPARE_HPP
#define OVERMOUNT_STORAGE_ON_DISK_TREE_COMPARE_HPP

#include <overmount/storage/storage_policy.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

// Compares everything that an unpacked layer keeps except the data of files: names, types, modes, owners, times, sizes, link
// targets, device numbers, xattrs, and which names are hard links to one file. `wanted` is the expected tree, `found` the tree
// to check. Reports each path that differs once; for a missing or additional directory only its own path, not those below.
// Holds the names of one directory in memory at a time.
void compare_trees(int wanted, int found, const verify_context& context);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/tree_compare.ipp>
#endif

#endif
