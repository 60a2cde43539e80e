#ifndef OVERMOUNT_STORAGE_SYNC_TREE_HPP
#define OVERMOUNT_STORAGE_SYNC_TREE_HPP

#include <overmount/core/config.hpp>

#include <functional>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Makes all that is in a directory last: each file and directory by itself, through a descriptor of its own. `poll` is called
// between them; what it throws ends the work. Takes two descriptors, however deep the tree is.
OVERMOUNT_LAZY void sync_tree(int root, const std::function<void()>& poll);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/sync_tree.ipp>
#endif

#endif
