#ifndef OVERMOUNT_STORAGE_DIFF_RECORD_HPP
#define OVERMOUNT_STORAGE_DIFF_RECORD_HPP

#include <overmount/core/durability.hpp>
#include <overmount/core/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// The metadata that a storage keeps with a diff (`diff.json`).
struct diff_record
{
    std::string form;            ///< `directory`, `tar`, or the form of a user-defined storage
    std::string xattrs = "none"; ///< namespace of the overlayfs xattrs: `trusted`, `user` or `none`
    std::string owners = "identity"; ///< how owners were mapped when the diff was written
    durability sync = durability::none;
    std::string boot;                ///< ID of the boot in which the diff was written
    std::uint64_t entries = 0;       ///< number of tar entries
    std::uint64_t bytes = 0;         ///< size of the uncompressed tar, in bytes
    bool implied_root = true;        ///< the tar has no entry for the root directory
    bool opaque_root = false;        ///< the root is opaque: it hides all layers below
    bool skipped_xattrs = false;     ///< some extended attributes could not be stored
    std::vector<std::string> implied; ///< directories without a tar entry of their own
    std::vector<std::string> whiteout_directories; ///< directories that hold whiteouts

    [[nodiscard]] std::string to_json() const;
    /// Throws `errc::corrupt_repository` for text that is not a valid record.
    [[nodiscard]] static diff_record parse(std::string_view json);
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/diff_record.ipp>
#endif

#endif
