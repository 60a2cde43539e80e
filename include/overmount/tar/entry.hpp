#ifndef OVERMOUNT_TAR_ENTRY_HPP
#define OVERMOUNT_TAR_ENTRY_HPP

#include <overmount/core/config.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::tar {

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

/// Seconds since 1970, negative before it, and nanoseconds from 0 to 999,999,999 on top of them.
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

/// A piece of a sparse file that holds data; what lies between the pieces reads as zeros. Bytes.
struct segment
{
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    friend bool operator==(const segment&, const segment&) = default;
};

/// One entry as its headers give it. Paths are bytes, as they came: neither checked nor normalised.
struct entry
{
    std::string path;
    std::string link_target; ///< of hard and symbolic links
    entry_type type = entry_type::regular;
    std::uint32_t mode = 0; ///< permission bits, 07777
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;        ///< of the file, holes included
    std::uint64_t stored_size = 0; ///< of its data in the archive, without padding and sparse map
    timestamp mtime;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::vector<xattr> xattrs;
    bool sparse = false;
    std::vector<segment> segments; ///< of a sparse file: ascending, apart, within `size`
};

/// An entry, and where its first header block lies in its tar, in bytes.
struct located_entry
{
    tar::entry entry;
    std::uint64_t offset = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif
