#ifndef OVERMOUNT_TAR_LOOKUP_HPP
#define OVERMOUNT_TAR_LOOKUP_HPP

#include <overmount/tar/merged_tree.hpp>

#include <string_view>

namespace overmount::OVERMOUNT_ABI::detail {

// Whether a symbolic link in the last component of a path is followed.
enum class last_link : unsigned char
{
    follow,
    keep,
};

// Resolves a path in a merged view as the kernel would in a chroot: symbolic links are followed, absolute ones from the root of
// the view; `..` of the root is the root; a trailing slash requires a directory. The empty path is the root. Performs no I/O; takes
// time proportional to the length of the path and of the link targets on it.
//
// *Errors*, with the path as entry: `entry_not_found`; ENOTDIR if a component on the way is not a directory; ELOOP for more than
// 40 symbolic links.
[[nodiscard]] const merged_tree::paths::value_type& lookup(const merged_tree::paths& in, std::string_view path,
                                                                          last_link last = last_link::follow);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/lookup.ipp>
#endif

#endif
