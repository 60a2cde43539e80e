// What of a repository nothing needs, and in which order it goes. Pure.
#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_HPP

#include <overmount/repository/records/leases.hpp>
#include <overmount/repository/records/records.hpp>

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

enum class kept_kind : unsigned char
{
    layer,
    diff,
    old_tree, // `diffs/<algorithm>/<hex>.<number>`
    manifest, // or an index
    blob,
};

// Something that a repository keeps for others: it goes when they have gone.
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

// Where it is below the base.
OVERMOUNT_LAZY [[nodiscard]] std::string path_of(const kept_thing& one);
// The diff or the old tree that the path of a lower directory, below `diffs/`, leads into; nothing for any other path.
OVERMOUNT_LAZY [[nodiscard]] std::optional<kept_thing> thing_of_lower(std::string_view path);

// What a manifest or an index refers to.
struct document_links
{
    std::optional<digest> config; // of a manifest
    std::vector<digest> names;    // blobs of a manifest, the config among them; manifests of an index
};

// Things that are there, and which of them are needed. First all that is there is added, then what is needed; both may go on
// after that. Holds a few hundred bytes for each thing.
class collection_marks
{
public:
    // \param record nothing where it cannot be believed; one that an image vouches for need not be known
    OVERMOUNT_LAZY void add_layer(const chain_id& chain, std::optional<layer_record> record);
    OVERMOUNT_LAZY void add_diff(const diff_id& id);
    OVERMOUNT_LAZY void add_old_tree(const diff_id& id, std::uint32_t number);
    // \param links nothing where it cannot be believed
    OVERMOUNT_LAZY void add_document(const digest& id, std::optional<document_links> links);
    OVERMOUNT_LAZY void add_blob(const digest& id);

    // An image needs its layers with their diffs, and the manifests that have its config, whether or not it is there itself.
    OVERMOUNT_LAZY void need_image(const digest& id, const std::vector<diff_id>& diffs);
    OVERMOUNT_LAZY void need(const lease_line& line);
    // It and all that it refers to.
    OVERMOUNT_LAZY void need(const kept_thing& one);
    // All trees that the diff has had: who needs one may have found any of them in its place.
    void need_trees_of(const digest& diff) { held_.insert(diff); }
    // What other layers are stacked upon.
    OVERMOUNT_LAZY void need_parents();

    // What an image needs: diffs, manifests and blobs.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_thing> needs_of(const digest& image, const std::vector<diff_id>& diffs) const;
    // Whether an image says what the layer is.
    [[nodiscard]] bool is_vouched(const chain_id& chain) const { return vouched_.contains(chain); }
    [[nodiscard]] const std::unordered_set<kept_thing, kept_thing_hash>& things() const noexcept { return there_; }
    [[nodiscard]] bool is_there(const kept_thing& one) const { return there_.contains(one); }
    [[nodiscard]] bool is_needed(const kept_thing& one) const { return needed_.contains(one); }
    // Whether it is to go: nothing needs it, and nothing that cannot be read may.
    OVERMOUNT_LAZY [[nodiscard]] bool is_unneeded(const kept_thing& one) const;

    // What cannot be believed and may refer to anything of its kind: layers that no image vouches for keep layers and diffs,
    // documents keep documents and blobs.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_thing> doubtful() const;

    // All that is to go. What refers to something goes in an earlier wave than that.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::vector<kept_thing>> waves() const;

private:
    OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_thing> references_of(const kept_thing& one) const;
    OVERMOUNT_LAZY void need_manifests_of(const digest& image);
    OVERMOUNT_LAZY void need_indexes_of(const digest& manifest);

    std::unordered_set<kept_thing, kept_thing_hash> there_, needed_;
    std::unordered_map<chain_id, layer_record> layers_;
    std::unordered_map<digest, document_links> documents_;
    std::unordered_multimap<digest, digest> manifests_of_, indexes_of_; // by the config; by the manifest
    std::unordered_set<digest> images_;
    std::unordered_set<chain_id> vouched_, doubtful_layers_;
    std::unordered_set<digest> damaged_documents_, held_; // the last of diffs
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/operations/impl/collect.ipp>
#endif

#endif
