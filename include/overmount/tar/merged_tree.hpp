#ifndef OVERMOUNT_TAR_MERGED_TREE_HPP
#define OVERMOUNT_TAR_MERGED_TREE_HPP

#include <overmount/core/limits.hpp>
#include <overmount/tar/entry.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::tar {

/// A file, directory or other thing of a merged view; hard links to it share one.
struct merged_node
{
    tar::entry entry;         ///< as its layer has it, with the xattrs that a mount shows, by name; never a hard link
    std::uint64_t offset = 0; ///< where the entry lies in its layer's tar
    std::size_t layer = 0;    ///< whose it is; 0 is the lowest
    bool implied = false;     ///< a directory that no layer has an entry for
};

/// What a mount of layers shows, worked out from their entries alone: whiteouts, opaque directories, directories that
/// are only implied, links on the way to a name, hard links, names that come twice. Pure.
///
/// Layers are added from the lowest to the topmost, each with its entries in the tar's order.
///
/// *Errors*: what unpacking the layer would say, with the entry: `entry_escapes_layer`, `invalid_whiteout`,
/// `missing_hard_link_target`, those of paths; `too_many_entries` where the view has more than the bounds' `entries`
/// or its texts more than their `tree_bytes`. After an error it can only be destroyed.
class merged_tree
{
public:
    using node = std::shared_ptr<const merged_node>;
    /// By the bytes of the path, without a slash in front; the root is the empty one. Parents come before children.
    using paths = std::map<std::string, node, std::less<>>;

    OVERMOUNT_LAZY explicit merged_tree(const limits& bounds);

    OVERMOUNT_LAZY void add(const located_entry& one);
    /// Puts the layer whose entries were added on those before.
    OVERMOUNT_LAZY void end_layer();

    /// Of the layers that were ended.
    [[nodiscard]] const paths& items() const noexcept { return shown_; }

private:
    // A name of the layer at hand; a whiteout has no node.
    struct local
    {
        node what;
        bool opaque = false;
        bool cut = false; // took the place of something: nothing of the layers below counts
    };
    using local_paths = std::map<std::string, local, std::less<>>;

    OVERMOUNT_LAZY void apply(const located_entry& one);
    OVERMOUNT_LAZY [[nodiscard]] std::string parent(std::string_view path, bool make);
    OVERMOUNT_LAZY void put(const std::string& path, const located_entry& one);
    OVERMOUNT_LAZY void put_directory(const std::string& path, const located_entry& one);
    OVERMOUNT_LAZY void put_hard_link(const std::string& path, const entry& link);
    OVERMOUNT_LAZY void put_whiteout(const std::string& path);
    OVERMOUNT_LAZY void make_room(const std::string& path);
    OVERMOUNT_LAZY [[nodiscard]] node make_node(const located_entry& one);
    OVERMOUNT_LAZY [[nodiscard]] node make_implied() const;
    OVERMOUNT_LAZY void count(std::uint64_t bytes);
    OVERMOUNT_LAZY void begin_layer();

    limits bounds_;
    paths shown_;
    local_paths layer_;
    std::size_t layers_ = 0;
    std::uint64_t shown_bytes_ = 0, layer_bytes_ = 0;
    // The parent that was resolved last.
    std::string known_path_, known_parent_;
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/merged_tree.ipp>
#endif

#endif
