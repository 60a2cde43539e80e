#ifndef OVERMOUNT_CHANGE_HPP
#define OVERMOUNT_CHANGE_HPP

#include <overmount/tar/entry.hpp>

#include <string>

namespace overmount::inline OVERMOUNT_ABI {

enum class change_kind : unsigned char
{
    added,
    changed,
    removed,
};

/// A path at which two trees differ.
struct change
{
    change_kind kind = change_kind::changed;
    std::string path;                                ///< bytes, without a slash in front; empty for the root
    tar::entry_type type = tar::entry_type::regular; ///< of what is there, or was; a hard link counts as what it links
    friend bool operator==(const change&, const change&) = default;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
