#ifndef OVERMOUNT_TAR_ENTRY_HPP
#define OVERMOUNT_TAR_ENTRY_HPP

#include <overmount/core/config.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::tar {

enum class entry_type : unsigned char
{
    regular,
    hard_link,
    symbolic_link,
    character_device,
    block_device,
    directory,
    fifo,
};

/// Seconds since 1970 (negative before it), plus nanoseconds from 0 to 999,999,999.
struct timestamp
{
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    friend bool operator==(const timestamp&, const timestamp&) = default;
};

/// An extended attribute; the value is binary.
struct xattr
{
    std::string name;
    std::string value;
    friend bool operator==(const xattr&, const xattr&) = default;
};

/// A segment of a sparse file that holds data, in bytes; the gaps between segments read as zeros.
struct segment
{
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    friend bool operator==(const segment&, const segment&) = default;
};

/// One entry as its headers describe it. Paths are the bytes of the archive, neither checked nor normalised.
struct entry
{
    std::string path;
    std::string link_target; ///< only of hard and symbolic links
    entry_type type = entry_type::regular;
    std::uint32_t mode = 0; ///< permission bits, 07777
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;        ///< size of the file, holes included
    std::uint64_t stored_size = 0; ///< size of its data in the archive, without padding and sparse map
    timestamp mtime;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::vector<xattr> xattrs;
    bool sparse = false;
    std::vector<segment> segments; ///< only of a sparse file: ascending, not overlapping, within `size`
};

/// An entry, and the offset of its first header block in its tar, in bytes.
struct located_entry
{
    tar::entry entry;
    std::uint64_t offset = 0;
};

} // namespace overmount::OVERMOUNT_ABI::tar

#endif
