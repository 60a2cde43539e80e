#ifndef OVERMOUNT_STORAGE_DIFF_RECORD_HPP
#define OVERMOUNT_STORAGE_DIFF_RECORD_HPP

#include <overmount/core/durability.hpp>
#include <overmount/core/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// What a storage notes beside a diff (`diff.json`).
struct diff_record
{
    std::string form;            ///< `directory`, `tar`, or a form of a storage of the user's own
    std::string xattrs = "none"; ///< class of overlayfs' own attributes: `trusted`, `user` or `none`
    std::string owners = "identity"; ///< how owners were mapped when written
    durability sync = durability::none;
    std::string boot;                ///< the boot in which it was written
    std::uint64_t entries = 0;       ///< tar entries
    std::uint64_t bytes = 0;         ///< size of the uncompressed tar, in bytes
    bool implied_root = true;        ///< the tar has no entry for the root directory
    bool opaque_root = false;        ///< nothing of the layers below shows
    bool skipped_xattrs = false;     ///< some extended attributes were left out
    std::vector<std::string> implied; ///< directories that the tar has no entry for
    std::vector<std::string> whiteout_directories; ///< directories that hold whiteouts

    OVERMOUNT_LAZY [[nodiscard]] std::string to_json() const;
    /// Throws `errc::corrupt_repository`.
    OVERMOUNT_LAZY [[nodiscard]] static diff_record parse(std::string_view json);
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/diff_record.ipp>
#endif

#endif
