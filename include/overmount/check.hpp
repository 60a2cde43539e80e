#ifndef OVERMOUNT_CHECK_HPP
#define OVERMOUNT_CHECK_HPP

#include <overmount/core/config.hpp>
#include <overmount/core/platform.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// What a check found. The object is named in brackets.
enum class finding_kind : unsigned char
{
    config_changed,     ///< the config does not have the image's ID, or is missing (image)
    manifest_changed,   ///< the manifest does not have its digest (manifest)
    blob_changed,       ///< the blob does not have its digest (blob)
    record_unreadable,  ///< a record cannot be read (chain ID, diff ID, mount, or the file of a tag)
    chain_id_mismatch,  ///< the layer's record does not make its chain ID (chain ID)
    layer_missing,      ///< a layer of the image is missing (image)
    parent_missing,     ///< the layer's parent is missing (chain ID)
    diff_missing,       ///< the layer's diff is missing, or not believed since it was never synced (chain ID)
    image_missing,      ///< the tag's image is missing (tag)
    manifest_missing,   ///< the tag's manifest or index is missing (tag)
    correction_missing, ///< the chain needs a correction, and there is none (chain ID)
    diff_changed,       ///< the diff is not as it was imported: at the path, or as a whole (diff ID)
    diff_unreadable,    ///< what is kept of the diff is damaged so that it cannot be compared (diff ID)
    diff_marked,        ///< an earlier check found the diff damaged, and this one has not read it (diff ID)
};

/// The name of the enumerator.
OVERMOUNT_LAZY [[nodiscard]] std::string_view to_string(finding_kind value) noexcept;

/// One damage.
struct finding
{
    finding_kind kind;
    std::string object; ///< a digest, the name of a tag or its file, the ID of a mount
    std::string path;   ///< within a diff, as bytes; empty for the whole
    std::string detail; ///< for people; printable

    friend bool operator==(const finding&, const finding&) = default;
    friend auto operator<=>(const finding&, const finding&) = default;
};

/// What was checked, and what was found.
struct check_report
{
    std::vector<finding> findings; ///< sorted
    std::vector<finding> mended;   ///< what was found, and is no more: by this operation, or since an earlier check
    std::uint64_t images = 0, layers = 0, diffs = 0, tags = 0, manifests = 0, blobs = 0;

    [[nodiscard]] bool ok() const noexcept { return findings.empty(); }
};

/// How a repository is checked.
class check_options
{
public:
    /// Whether diffs and blobs are read; else only records and what they refer to.
    check_options& contents(bool on)
    {
        contents_ = on;
        return *this;
    }
    [[nodiscard]] bool contents() const noexcept { return contents_; }

private:
    bool contents_ = true;
};

/// How a repository is repaired.
class repair_options
{
public:
    /// The platform to choose from an index of the source; by default this machine's.
    repair_options& wanted(overmount::platform value)
    {
        wanted_ = std::move(value);
        return *this;
    }
    [[nodiscard]] const overmount::platform& wanted() const noexcept { return wanted_; }

private:
    overmount::platform wanted_ = overmount::platform::host();
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/check.ipp>
#endif

#endif
