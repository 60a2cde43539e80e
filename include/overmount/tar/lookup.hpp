#ifndef OVERMOUNT_TAR_LOOKUP_HPP
#define OVERMOUNT_TAR_LOOKUP_HPP

#include <overmount/tar/merged_tree.hpp>

#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::tar {

/// What becomes of a symbolic link that a path ends in.
enum class last_link : unsigned char
{
    follow,
    keep,
};

/// Finds a path in a merged view as the kernel finds it in a root of its own: symbolic links on the way are followed, absolute
/// ones from the root of the view; `..` of the root is the root; a slash at the end asks for a directory. The empty path is the
/// root. Pure; takes time in proportion to the path and the targets of its links.
///
/// *Errors*, with the path as entry: `entry_not_found`; ENOTDIR where something on the way is no directory; ELOOP for more than
/// 40 links.
OVERMOUNT_LAZY [[nodiscard]] const merged_tree::paths::value_type& lookup(const merged_tree::paths& in, std::string_view path,
                                                                          last_link last = last_link::follow);

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/lookup.ipp>
#endif

#endif
