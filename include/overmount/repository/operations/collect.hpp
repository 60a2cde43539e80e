// Finds the objects of a repository that nothing needs, and the order in which to remove them. Pure.
#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_HPP

#include <overmount/repository/records/leases.hpp>
#include <overmount/repository/records/layer_records.hpp>

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

enum class kept_kind : unsigned char
{
    layer,
    diff,
    old_tree, // `diffs/<algorithm>/<hex>.<number>`
    manifest, // or an index
    blob,
};

// An object that is kept only while something refers to it.
struct kept_thing
{
    kept_kind kind;
    digest id;
    std::uint32_t number = 0; // of an old tree

    friend bool operator==(const kept_thing&, const kept_thing&) = default;
    friend auto operator<=>(const kept_thing&, const kept_thing&) = default;
};
struct kept_thing_hash
{
    std::size_t operator()(const kept_thing& one) const noexcept
    {
        return std::hash<digest>()(one.id) + static_cast<std::size_t>(one.kind) + 8 * std::size_t{one.number};
    }
};

// The object's path below the repository's base directory.
OVERMOUNT_LAZY [[nodiscard]] std::string path_of(const kept_thing& one);
// The diff or old tree that has this lower directory, a path below `diffs/`; nullopt for any other path.
OVERMOUNT_LAZY [[nodiscard]] std::optional<kept_thing> thing_of_lower(std::string_view path);

// The references of a manifest or an index.
struct document_links
{
    std::optional<digest> config; // of a manifest
    std::vector<digest> names;    // blobs of a manifest, the config among them; manifests of an index
};

// The existing objects, and which of them are needed. First all existing objects are added, then the needed ones are marked; both may
// go on afterwards. Takes a few hundred bytes for each object.
class collection_marks
{
public:
    // \param record nullopt if it is damaged, or if an image vouches for the layer, that is, its config lists the layer's diffs
    OVERMOUNT_LAZY void add_layer(const chain_id& chain, std::optional<layer_record> record);
    OVERMOUNT_LAZY void add_diff(const diff_id& id);
    OVERMOUNT_LAZY void add_old_tree(const diff_id& id, std::uint32_t number);
    // \param links nullopt if the document is damaged
    OVERMOUNT_LAZY void add_document(const digest& id, std::optional<document_links> links);
    OVERMOUNT_LAZY void add_blob(const digest& id);

    // Marks what an image needs: its layers, their diffs, and the manifests that refer to its config.
    OVERMOUNT_LAZY void need_image(const digest& id, const std::vector<diff_id>& diffs);
    OVERMOUNT_LAZY void need(const lease_line& line);
    // Marks an object and all that it refers to.
    OVERMOUNT_LAZY void need(const kept_thing& one);
    // Marks all trees that the diff has had: a user of the diff may have opened any of them.
    void need_trees_of(const digest& diff) { held_.insert(diff); }
    // Marks every layer on which another layer is stacked.
    OVERMOUNT_LAZY void need_parents();

    // The diffs, manifests and blobs that an image needs.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_thing> needs_of(const digest& image, const std::vector<diff_id>& diffs) const;
    // Whether an image lists the layer's diffs.
    [[nodiscard]] bool is_vouched(const chain_id& chain) const { return vouched_.contains(chain); }
    [[nodiscard]] const std::unordered_set<kept_thing, kept_thing_hash>& things() const noexcept { return there_; }
    [[nodiscard]] bool is_there(const kept_thing& one) const { return there_.contains(one); }
    [[nodiscard]] bool is_needed(const kept_thing& one) const { return needed_.contains(one); }
    // Whether to remove the object: nothing needs it, and no damaged object may need it.
    OVERMOUNT_LAZY [[nodiscard]] bool is_unneeded(const kept_thing& one) const;

    // Damaged objects, which may refer to anything: damaged layers that no image vouches for keep all layers and diffs; damaged
    // documents keep all documents and blobs.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_thing> doubtful() const;

    // All objects to remove, in waves: an object is in an earlier wave than the objects it refers to.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::vector<kept_thing>> waves() const;

private:
    OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_thing> references_of(const kept_thing& one) const;
    OVERMOUNT_LAZY void need_manifests_of(const digest& image);
    OVERMOUNT_LAZY void need_indexes_of(const digest& manifest);

    std::unordered_set<kept_thing, kept_thing_hash> there_, needed_;
    std::unordered_map<chain_id, layer_record> layers_;
    std::unordered_map<digest, document_links> documents_;
    std::unordered_multimap<digest, digest> manifests_of_, indexes_of_; // by config; by manifest
    std::unordered_set<digest> images_;
    std::unordered_set<chain_id> vouched_, doubtful_layers_;
    std::unordered_set<digest> damaged_documents_, held_; // held_: diffs whose old trees are needed
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/operations/impl/collect.ipp>
#endif

#endif
