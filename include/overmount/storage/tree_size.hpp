#ifndef OVERMOUNT_STORAGE_TREE_SIZE_HPP
#define OVERMOUNT_STORAGE_TREE_SIZE_HPP

#include <overmount/core/config.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// The number of bytes that are allocated for `name` in `parent`, a file or a directory with all its content. A file with several
// names counts once; files that are removed meanwhile do not count. Calls `poll` between files; an exception from it ends the work.
[[nodiscard]] std::uint64_t tree_size(int parent, const std::string& name, const std::function<void()>& poll);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/tree_size.ipp>
#endif

#endif
