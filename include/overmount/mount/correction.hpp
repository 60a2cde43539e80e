#ifndef OVERMOUNT_MOUNT_CORRECTION_HPP
#define OVERMOUNT_MOUNT_CORRECTION_HPP

#include <overmount/posix/descriptor_budget.hpp>
#include <overmount/storage/storage_policy.hpp>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// One layer of a stack: its directory and its record in the storage.
struct stacked_layer
{
    lower_directory directory; // kept open if the descriptor budget allows it
    diff_record record;
    std::function<lower_directory()> reopen = {};
    std::shared_ptr<descriptor_budget> budget = {}; // the budget that the open descriptor counts against

    [[nodiscard]] std::shared_ptr<const unique_fd> fd() const { return directory.fd ? directory.fd : reopen().fd; }
    // Closes the descriptor if `reopen` is set; `fd` then opens the directory for each call.
    void close() noexcept
    {
        if (reopen)
            directory.fd.reset();
        budget.reset();
    }
};

// Copies owner, mode, times and xattrs of the directory `from` to the directory `to`, without overlayfs' own xattrs.
void copy_directory_attributes(int from, int to);

// Finds the layers that overlayfs merges into the directory at a path, by overlayfs' rules and one lookup in each layer. The results
// for the parents of the last path are cached, so that queries in sorted order cost one lookup in each layer. For the children of
// one directory they cost less: after a few queries the directory is listed once in each layer, if it is small, and lookups are made
// only in the layers that have the name.
class shown_layers
{
public:
    // `stack` is topmost first, and outlives this.
    explicit shown_layers(const std::vector<stacked_layer>& stack);

    // The layers that have a visible directory at `path`, topmost first; empty if the visible file is of another type or there is
    // none. Valid until the next call.
    [[nodiscard]] const std::vector<std::size_t>& of(const std::string& path);
    // The layers that have the parent directory, but whose `path` is hidden by an opaque directory of `of(path)`. They may have no
    // `path`.
    [[nodiscard]] std::span<const std::size_t> hidden(const std::string& path);

private:
    using names = std::optional<std::unordered_set<std::string>>; // nullopt if there are too many
    struct lookup
    {
        std::string path;
        std::vector<std::size_t> showing = {};
        std::size_t searched = 0; // number of the parent's layers down to the first opaque one, or all of them
        std::size_t children = 0; // number of queries for its children
        std::vector<names> listed = {}; // names in the directory, for each of `showing`; empty before several queries
    };
    [[nodiscard]] lookup look_up(std::string path);
    void list(lookup& directory) const;

    const std::vector<stacked_layer>* stack_;
    lookup root_;
    std::vector<lookup> parents_; // each is a child of the one before
};

// Corrects what overlayfs alone would show of a stack (design.md, section 6): directories without a tar entry must have the attributes
// that lower layers give them, and whiteouts in a directory that exists in one layer only must not be listed. The correction is a tree
// of directories that is mounted as the topmost layer.
//
// It is computed from lookups of the paths in the diffs' records; no tree is walked.
class correction
{
public:
    // `stack` is topmost first, holds no layer twice, and ends with the first opaque root.
    explicit correction(const std::vector<stacked_layer>& stack);

    [[nodiscard]] bool needed() const noexcept { return root_ || !directories_.empty(); }
    // Creates the tree in the empty directory `target`.
    void write(int target);

private:
    // The layer whose attributes the directory must have; nullopt if no layer has an entry for it.
    [[nodiscard]] std::optional<std::size_t> attributes_of(const std::string& path);
    [[nodiscard]] bool implies(std::size_t layer, const std::string& path) const;
    // The layer whose directory is copied.
    [[nodiscard]] std::size_t source_of(const std::string& path);
    void add(const std::string& path);

    const std::vector<stacked_layer>& stack_;
    shown_layers shown_;
    std::vector<std::set<std::string, std::less<>>> implied_;
    bool root_ = false;
    std::map<std::string, std::size_t> directories_; // with the layer to copy from; parents come before children
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/correction.ipp>
#endif

#endif
