#ifndef OVERMOUNT_STORAGE_TREE_SIZE_HPP
#define OVERMOUNT_STORAGE_TREE_SIZE_HPP

#include <overmount/core/config.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace overmount::inline OVERMOUNT_ABI::detail {

// The bytes that are allocated for `name` below `parent`, a file or a directory with all that is in it; a file with several names
// counts once. What goes meanwhile is not counted. `poll` is called between files; what it throws ends the work.
OVERMOUNT_LAZY [[nodiscard]] std::uint64_t tree_size(int parent, const std::string& name, const std::function<void()>& poll);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/tree_size.ipp>
#endif

#endif
