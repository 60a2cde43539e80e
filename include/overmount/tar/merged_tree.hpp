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

namespace overmount::OVERMOUNT_ABI::detail {

// A file, directory, link or device of a merged view. All hard links to a file share one node.
struct merged_node
{
    tar::entry entry;         //< as in its layer, with the xattrs that a mount has, sorted by name; never a hard link
    std::uint64_t offset = 0; //< of the entry in its layer's tar
    std::size_t layer = 0;    //< the layer it comes from; 0 is the lowest
    bool implied = false;     //< a directory without an entry of its own: it only occurs in paths
};

// Computes the tree that a mount of layers has, from their entries alone. It applies whiteouts, opaque directories, implied
// directories, symbolic links in parent paths, hard links, and names that occur twice in a layer. Performs no I/O.
//
// Add the layers from the lowest to the topmost, each with its entries in the order of its tar.
//
// *Errors*: the same as for unpacking the layer, with the entry: `entry_escapes_layer`, `invalid_whiteout`,
// `missing_hard_link_target`, those of `normalise`; `too_many_entries` if the view has more than `limits::entries` entries
// or more than `limits::tree_bytes` bytes of text. After an error it can only be destroyed.
class merged_tree
{
public:
    using node = std::shared_ptr<const merged_node>;
    // Sorted by the bytes of the path, which has no leading slash; the root is the empty path. Parents precede children.
    using paths = std::map<std::string, node, std::less<>>;

    explicit merged_tree(const limits& bounds);

    void add(const tar::located_entry& one);
    // Ends the current layer: merges the entries added since the last call on top of the layers below.
    void end_layer();

    // The merged view of all layers that were ended.
    [[nodiscard]] const paths& items() const noexcept { return merged_; }

private:
    // A path of the current layer; a whiteout has no node.
    struct layer_item
    {
        node what;
        bool opaque = false;
        bool replaced = false; // replaced a whiteout or another type: nothing of the layers below it remains
    };
    using layer_paths = std::map<std::string, layer_item, std::less<>>;

    void apply(const tar::located_entry& one);
    [[nodiscard]] std::string parent(std::string_view path, bool make);
    void put(const std::string& path, const tar::located_entry& one);
    void put_directory(const std::string& path, const tar::located_entry& one);
    void put_hard_link(const std::string& path, const tar::entry& link);
    void put_whiteout(const std::string& path);
    void remove_below(const std::string& path);
    [[nodiscard]] node make_node(const tar::located_entry& one);
    [[nodiscard]] node make_implied() const;
    void count(std::uint64_t bytes);
    void begin_layer();

    limits bounds_;
    paths merged_;
    layer_paths layer_;
    std::size_t layers_ = 0;
    std::uint64_t merged_bytes_ = 0, layer_bytes_ = 0;
    // The parent path that was resolved last, and its result.
    std::string cached_path_, cached_parent_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/merged_tree.ipp>
#endif

#endif
