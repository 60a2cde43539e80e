#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_CHECK_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_CHECK_RECORDS_IPP

#include <overmount/repository/records/check_records.hpp>

#include <algorithm>
#include <cerrno>

namespace overmount::OVERMOUNT_ABI::detail {

inline void check_layer(const listed_records& all, const chain_id& chain, const layer_record& layer,
                                       std::vector<finding>& out)
{
    const auto add = [&](finding_kind kind, std::string detail) {
        out.push_back({kind, chain.string(), "", std::move(detail)});
    };
    const chain_id named = chain_id::of(layer.parent, layer.diff);
    if (named != chain)
        add(finding_kind::chain_id_mismatch, "its parent and its diff have the chain ID " + named.string());
    if (layer.parent && !all.layers.contains(*layer.parent))
        add(finding_kind::parent_missing, "its parent " + layer.parent->string() + " is missing");
    if (!all.diffs.contains(layer.diff))
        add(finding_kind::diff_missing, "its diff " + layer.diff.string() + " is missing");
}

inline void check_image(const listed_records& all, const digest& id, const std::vector<diff_id>& diffs,
                                       std::vector<finding>& out)
{
    for (const auto& [chain, layer] : chain_of(diffs))
        if (!all.layers.contains(chain))
            out.push_back({finding_kind::layer_missing, id.string(), "",
                           "its layer " + chain.string() + " is missing" +
                               (all.diffs.contains(layer.diff) ? "" : ", and so is the diff " + layer.diff.string())});
}

inline void check_tag(const listed_records& all, const tag_record& tag, std::vector<finding>& out)
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

OVERMOUNT_DECL std::vector<finding> broken_references(const listed_records& all)
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

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
