#ifndef OVERMOUNT_CHANGE_HPP
#define OVERMOUNT_CHANGE_HPP

#include <overmount/tar/entry.hpp>

#include <string>

namespace overmount::OVERMOUNT_ABI {

enum class change_kind : unsigned char
{
    added,
    changed,
    removed,
};

/// A path at which one tree differs from another.
struct change
{
    change_kind kind = change_kind::changed;
    std::string path;                                ///< bytes, without a leading slash; empty for the root
    tar::entry_type type = tar::entry_type::regular; ///< of the new entry, or of the removed one; a hard link has its target's
    friend bool operator==(const change&, const change&) = default;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
