#ifndef OVERMOUNT_COLLECT_HPP
#define OVERMOUNT_COLLECT_HPP

#include <overmount/core/digest.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// Options of `basic_repository::collect`.
class collect_options
{
public:
    /// Removes nothing; the report says what a collection would remove.
    collect_options& dry_run(bool on)
    {
        dry_run_ = on;
        return *this;
    }
    /// Keeps objects that changed less than this ago, and everything that they refer to. The default is zero: no object is kept
    /// for its age. The age is the difference between the clock and the `ctime` of the object's file or directory; a `ctime` in
    /// the future counts as young.
    collect_options& least_age(std::chrono::seconds value)
    {
        least_age_ = value;
        return *this;
    }
    [[nodiscard]] bool dry_run() const noexcept { return dry_run_; }
    [[nodiscard]] std::chrono::seconds least_age() const noexcept { return least_age_; }

private:
    bool dry_run_ = false;
    std::chrono::seconds least_age_{0};
};

/// Something that a collection could not remove, though nothing needs it.
struct uncollected
{
    std::string path; ///< relative to the repository
    std::string why;  ///< text for people; printable

    friend bool operator==(const uncollected&, const uncollected&) = default;
};

/// What a collection removed, or would remove in a dry run.
struct collect_report
{
    std::uint64_t layers = 0, diffs = 0, manifests = 0, blobs = 0;
    std::uint64_t old_trees = 0; ///< damaged trees of diffs that were repaired since
    std::uint64_t leases = 0;    ///< leases that expired, or whose owner died
    std::uint64_t leftovers = 0; ///< files below `tmp/` that dead operations left
    std::uint64_t bytes = 0;     ///< allocated bytes; a file with several names counts once
    std::vector<uncollected> left;
};

/// What uses the space of a repository. All sizes are allocated bytes.
struct usage_report
{
    struct image
    {
        digest id;
        std::uint64_t bytes = 0;  ///< of the diffs and blobs that the image needs
        std::uint64_t shared = 0; ///< the part of `bytes` that something else needs as well
        std::uint64_t own = 0;    ///< the part that is freed when the image is removed and the repository collected
    };
    std::vector<image> images; ///< sorted by ID
    std::uint64_t diffs = 0, blobs = 0, manifests = 0; ///< all that the repository has
    std::uint64_t unneeded = 0; ///< the part of these that a collection would remove now
    std::uint64_t uppers = 0;   ///< upper directories of writable mounts
    std::uint64_t leftovers = 0; ///< everything below `tmp/`: work in progress, and what is being removed
};

} // namespace overmount::OVERMOUNT_ABI

#endif
