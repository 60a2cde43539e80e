#ifndef OVERMOUNT_CHECK_HPP
#define OVERMOUNT_CHECK_HPP

#include <overmount/core/config.hpp>
#include <overmount/core/platform.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// What a check found. The brackets say what `finding::object` names.
enum class finding_kind : unsigned char
{
    config_changed,     ///< the config's digest is not the image's ID, or the config is missing (image)
    manifest_changed,   ///< the manifest's bytes do not match its digest (manifest)
    blob_changed,       ///< the blob's bytes do not match its digest (blob)
    record_unreadable,  ///< a record cannot be read (chain ID, diff ID, mount ID, or the file name of a tag)
    chain_id_mismatch,  ///< the layer's record does not yield its chain ID (chain ID)
    layer_missing,      ///< a layer of the image is missing (image)
    parent_missing,     ///< the layer's parent is missing (chain ID)
    diff_missing,       ///< the layer's diff is missing, or not trusted because it was never synced (chain ID)
    image_missing,      ///< the tag's image is missing (tag)
    manifest_missing,   ///< the tag's manifest or index is missing (tag)
    correction_missing, ///< the chain needs a correction, and it is missing (chain ID)
    diff_changed,       ///< the diff differs from what was imported: at the path, or as a whole (diff ID)
    diff_unreadable,    ///< the diff's stored content is too damaged to be compared (diff ID)
    diff_marked,        ///< an earlier check found the diff damaged, and this check did not read it (diff ID)
};

/// Returns the enumerator's name.
[[nodiscard]] std::string_view to_string(finding_kind value) noexcept;

/// One damaged object.
struct finding
{
    finding_kind kind;
    std::string object; ///< a digest, a tag's name or file name, or a mount's ID
    std::string path;   ///< a path in a diff, as bytes; empty for the diff as a whole
    std::string detail; ///< text for people; printable

    friend bool operator==(const finding&, const finding&) = default;
    friend auto operator<=>(const finding&, const finding&) = default;
};

/// What a check read, and what it found.
struct check_report
{
    std::vector<finding> findings; ///< sorted
    std::vector<finding> mended;   ///< damage that this operation repaired, or that was repaired since an earlier check
    std::uint64_t images = 0, layers = 0, diffs = 0, tags = 0, manifests = 0, blobs = 0;

    [[nodiscard]] bool ok() const noexcept { return findings.empty(); }
};

/// Options of `basic_repository::check`.
class check_options
{
public:
    /// Whether to read diffs and blobs (the default), or only records and their references.
    check_options& contents(bool on)
    {
        contents_ = on;
        return *this;
    }
    [[nodiscard]] bool contents() const noexcept { return contents_; }

private:
    bool contents_ = true;
};

/// Options of `basic_repository::repair`.
class repair_options
{
public:
    /// The platform to choose from an index that the source has; by default this machine's.
    repair_options& wanted(overmount::platform value)
    {
        wanted_ = std::move(value);
        return *this;
    }
    [[nodiscard]] const overmount::platform& wanted() const noexcept { return wanted_; }

private:
    overmount::platform wanted_ = overmount::platform::host();
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/check.ipp>
#endif

#endif
