#ifndef OVERMOUNT_REPOSITORY_RECORDS_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_RECORDS_HPP

#include <overmount/core/digest.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace overmount::inline OVERMOUNT_ABI {

/// A layer as the repository records it.
struct layer_record
{
    diff_id diff;
    std::optional<chain_id> parent;
};

/// A tag as the repository records it.
struct tag_record
{
    std::string name;
    digest image;
    std::optional<digest> manifest;
    std::string source; ///< where the image came from, for people
    std::string time;   ///< RFC 3339
    std::optional<digest> index = {}; ///< the index by which the manifest was found
};

/// A mount as the repository records it.
struct mount_record
{
    std::string id;
    digest image;
    std::string target; ///< absolute path of the mount point
    bool writable = false;
    std::string boot;             ///< the boot in which it was made
    std::uint64_t mount_namespace = 0; ///< inode of the namespace in which it was made

    /// What mountinfo shows as its source.
    [[nodiscard]] std::string source() const { return "overmount-" + id; }
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
