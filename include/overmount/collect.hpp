#ifndef OVERMOUNT_COLLECT_HPP
#define OVERMOUNT_COLLECT_HPP

#include <overmount/core/digest.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// How a repository is collected.
class collect_options
{
public:
    /// Removes nothing: the report says what would go.
    collect_options& dry_run(bool on)
    {
        dry_run_ = on;
        return *this;
    }
    /// What became what it is less than this ago stays, and all that it refers to; by default nothing does. The time is that
    /// of the file system (`ctime` of the file or directory), compared with the clock: what is of the future is young.
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

/// Something that a collection left, though nothing needs it.
struct uncollected
{
    std::string path; ///< in the repository
    std::string why;  ///< for people; printable

    friend bool operator==(const uncollected&, const uncollected&) = default;
};

/// What a collection removed, or in a dry run would.
struct collect_report
{
    std::uint64_t layers = 0, diffs = 0, manifests = 0, blobs = 0;
    std::uint64_t old_trees = 0; ///< damaged trees of diffs that were mended
    std::uint64_t leases = 0;    ///< whose time was over, or whose owner is dead
    std::uint64_t leftovers = 0; ///< below `tmp/`, of operations that died
    std::uint64_t bytes = 0;     ///< that were allocated; a file with several names counts once
    std::vector<uncollected> left;
};

/// What takes the space of a repository. All sizes are bytes that are allocated.
struct usage_report
{
    struct image
    {
        digest id;
        std::uint64_t bytes = 0;  ///< of the diffs and blobs that it needs
        std::uint64_t shared = 0; ///< the part of it that something else needs as well
        std::uint64_t own = 0;    ///< the part that comes back when it is removed and the repository collected
    };
    std::vector<image> images; ///< by ID
    std::uint64_t diffs = 0, blobs = 0, manifests = 0; ///< all of them
    std::uint64_t unneeded = 0; ///< of those, what a collection removes now
    std::uint64_t uppers = 0;   ///< what was written in mounts
    std::uint64_t leftovers = 0; ///< what is below `tmp/`: work in hand, and what is being removed
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
