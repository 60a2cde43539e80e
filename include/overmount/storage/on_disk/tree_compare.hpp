#ifndef OVERMOUNT_STORAGE_ON_DISK_TREE_COMPARE_HPP
#define OVERMOUNT_STORAGE_ON_DISK_TREE_COMPARE_HPP

#include <overmount/storage/storage_policy.hpp>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Compares two trees in all that an unpacked layer keeps but the data of files: names, types, modes, owners, times,
// sizes, targets of links, devices, attributes, and which names are one file. Tells each path that differs, once: of
// what is missing or new, nothing below. `wanted` is how `found` should be. Holds a directory's names at a time.
OVERMOUNT_LAZY void compare_trees(int wanted, int found, const verify_context& context);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/tree_compare.ipp>
#endif

#endif
