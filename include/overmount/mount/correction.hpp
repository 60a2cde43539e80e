#ifndef OVERMOUNT_MOUNT_CORRECTION_HPP
#define OVERMOUNT_MOUNT_CORRECTION_HPP

#include <overmount/posix/descriptor_turn.hpp>
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

namespace overmount::inline OVERMOUNT_ABI::detail {

// One layer of a stack: where it is, and what its storage noted of it.
struct stacked_layer
{
    lower_directory directory; // open where the process can spare a descriptor
    diff_record record;
    std::function<lower_directory()> reopen = {};
    std::shared_ptr<descriptor_turn> turn = {}; // by which it is kept open

    [[nodiscard]] std::shared_ptr<const unique_fd> fd() const { return directory.fd ? directory.fd : reopen().fd; }
    // From now on it is opened each time, where that is possible.
    void close() noexcept
    {
        if (reopen)
            directory.fd.reset();
        turn.reset();
    }
};

// Gives the directory `to` the owner, mode, times and xattrs of the directory `from`; overlayfs' own stay out.
OVERMOUNT_LAZY void copy_directory_attributes(int from, int to);

// Which layers show a path as a directory in a mount of a stack. The answer is overlayfs' own rule, by single look-ups;
// those of the parents of the path that was asked last are kept, so that sorted questions cost one look-up a layer each.
// For the children of one directory they cost less: after a few of them each layer's directory is listed once, where it is
// small, and is asked only for what it holds.
class shown_layers
{
public:
    // `stack` is topmost first, and outlives this.
    OVERMOUNT_LAZY explicit shown_layers(const std::vector<stacked_layer>& stack);

    // Topmost first; none where something else shows or nothing. Holds until the next question.
    OVERMOUNT_LAZY [[nodiscard]] const std::vector<std::size_t>& of(const std::string& path);
    // Those that show the parent and lie below an opaque one of `of(path)`. Not asked yet whether they have the path.
    OVERMOUNT_LAZY [[nodiscard]] std::span<const std::size_t> hidden(const std::string& path);

private:
    using names = std::optional<std::unordered_set<std::string>>; // nothing where they are many
    struct answer
    {
        std::string path;
        std::vector<std::size_t> showing = {};
        std::size_t asked = 0; // of those that show the parent; all of them unless one is opaque
        std::size_t children = 0; // that were asked for
        std::vector<names> listed = {}; // what the directory holds in each of `showing`; empty while few were asked for
    };
    OVERMOUNT_LAZY [[nodiscard]] answer ask(std::string path);
    OVERMOUNT_LAZY void list(answer& directory) const;

    const std::vector<stacked_layer>* stack_;
    answer root_;
    std::vector<answer> parents_; // each within the one before
};

// What a mount of a stack must show otherwise than overlayfs would (design.md, section 6): directories that a
// diff only implies have the attributes of the layers below; whiteouts in directories that nothing merges with
// are not listed. The correction is a tree of directories alone, to be stacked on top.
//
// The answers come from single look-ups of the paths that the diffs noted; no tree is walked.
class correction
{
public:
    // `stack` is topmost first, has no layer twice, and ends at an opaque root.
    OVERMOUNT_LAZY explicit correction(const std::vector<stacked_layer>& stack);

    [[nodiscard]] bool needed() const noexcept { return root_ || !directories_.empty(); }
    // Makes the tree in the empty directory `target`.
    OVERMOUNT_LAZY void write(int target);

private:
    // The layer whose attributes the directory has; nothing when no layer has an entry for it.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::size_t> attributes_of(const std::string& path);
    OVERMOUNT_LAZY [[nodiscard]] bool implies(std::size_t layer, const std::string& path) const;
    // The layer that the directory is copied from.
    OVERMOUNT_LAZY [[nodiscard]] std::size_t source_of(const std::string& path);
    OVERMOUNT_LAZY void add(const std::string& path);

    const std::vector<stacked_layer>& stack_;
    shown_layers shown_;
    std::vector<std::set<std::string, std::less<>>> implied_;
    bool root_ = false;
    std::map<std::string, std::size_t> directories_; // and what they are copied from; parents come before children
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/correction.ipp>
#endif

#endif
