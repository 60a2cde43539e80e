#ifndef OVERMOUNT_STORAGE_SYNC_TREE_HPP
#define OVERMOUNT_STORAGE_SYNC_TREE_HPP

#include <overmount/core/config.hpp>

#include <functional>

namespace overmount::OVERMOUNT_ABI::detail {

// Makes a directory with all its content durable: syncs each file and directory through its own descriptor. Calls `poll` between
// files; an exception from it ends the work. Uses two descriptors, however deep the tree is.
void sync_tree(int root, const std::function<void()>& poll);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/sync_tree.ipp>
#endif

#endif
