#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_CHECK_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_CHECK_RECORDS_IPP

#include <overmount/repository/records/check_records.hpp>

#include <algorithm>
#include <cerrno>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY inline void check_layer(const listed_records& all, const chain_id& chain, const layer_record& layer,
                                       std::vector<finding>& out)
{
    const auto tell = [&](finding_kind kind, std::string detail) {
        out.push_back({kind, chain.string(), "", std::move(detail)});
    };
    const chain_id named = layer.parent ? chain_id::of(*layer.parent, layer.diff) : chain_id::of(layer.diff);
    if (named != chain)
        tell(finding_kind::chain_id_mismatch, "its parent and diff make " + named.string());
    if (layer.parent && !all.layers.contains(*layer.parent))
        tell(finding_kind::parent_missing, "its parent " + layer.parent->string() + " is missing");
    if (!all.diffs.contains(layer.diff))
        tell(finding_kind::diff_missing, "its diff " + layer.diff.string() + " is missing");
}

OVERMOUNT_LAZY inline void check_image(const listed_records& all, const digest& id, const std::vector<diff_id>& diffs,
                                       std::vector<finding>& out)
{
    std::optional<chain_id> chain;
    for (const diff_id& diff : diffs) {
        chain = chain ? chain_id::of(*chain, diff) : chain_id::of(diff);
        if (!all.layers.contains(*chain))
            out.push_back({finding_kind::layer_missing, id.string(), "",
                           "its layer " + chain->string() + " is missing" +
                               (all.diffs.contains(diff) ? "" : ", and so is the diff " + diff.string())});
    }
}

OVERMOUNT_LAZY inline void check_tag(const listed_records& all, const tag_record& tag, std::vector<finding>& out)
{
    if (!all.images.contains(tag.image))
        out.push_back(
            {finding_kind::image_missing, tag.name, "", "its image " + tag.image.string() + " is missing"});
    const auto check_document = [&](const char* what, const std::optional<digest>& id) {
        if (id && !all.manifests.contains(*id))
            out.push_back({finding_kind::manifest_missing, tag.name, "",
                           "its " + std::string(what) + " " + id->string() + " is missing"});
    };
    check_document("manifest", tag.manifest);
    check_document("index", tag.index);
}

OVERMOUNT_LAZY_BODY std::vector<finding> broken_references(const listed_records& all)
{
    std::vector<finding> out;
    for (const auto& [id, diffs] : all.images)
        if (diffs)
            check_image(all, id, *diffs, out);
    for (const auto& [chain, layer] : all.layers)
        if (layer)
            check_layer(all, chain, *layer, out);
    for (const tag_record& tag : all.tags)
        check_tag(all, tag, out);
    return out;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
