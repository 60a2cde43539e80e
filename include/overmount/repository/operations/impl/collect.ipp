#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_IMPL_COLLECT_IPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_IMPL_COLLECT_IPP

#include <overmount/repository/operations/collect.hpp>
#include <overmount/storage/record_file.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY std::string path_of(const kept_thing& one)
{
    switch (one.kind) {
    case kept_kind::layer: return "layers/" + digest_path(one.id);
    case kept_kind::diff: return "diffs/" + digest_path(one.id);
    case kept_kind::old_tree: return "diffs/" + digest_path(one.id) + "." + std::to_string(one.number);
    case kept_kind::manifest: return "manifests/" + digest_name(one.id) + ".json";
    case kept_kind::blob: break;
    }
    return "blobs/" + digest_path(one.id);
}

OVERMOUNT_LAZY_BODY std::optional<kept_thing> thing_of_lower(std::string_view path)
{
    const auto slash = path.find('/');
    if (slash == std::string_view::npos)
        return std::nullopt;
    const std::string_view algorithm = path.substr(0, slash);
    path.remove_prefix(slash + 1);
    std::string_view name = path.substr(0, path.find('/')), suffix;
    if (const auto dot = name.find('.'); dot != std::string_view::npos) {
        suffix = name.substr(dot + 1);
        name = name.substr(0, dot);
        if (suffix.empty())
            return std::nullopt;
    }
    const auto id = digest::try_parse(std::string(algorithm) + ":" + std::string(name));
    if (!id)
        return std::nullopt;
    if (suffix.empty())
        return kept_thing{kept_kind::diff, *id};
    kept_thing out{kept_kind::old_tree, *id};
    const auto read = std::from_chars(suffix.data(), suffix.data() + suffix.size(), out.number);
    if (read.ec != std::errc() || read.ptr != suffix.data() + suffix.size() || std::to_string(out.number) != suffix)
        return std::nullopt;
    return out;
}

OVERMOUNT_LAZY_BODY void collection_marks::add_layer(const chain_id& chain, std::optional<layer_record> record)
{
    there_.insert({kept_kind::layer, chain.value()});
    // A chain ID is a digest of all layers below it: records with the right one cannot form a cycle.
    if (record && chain_id::of(record->parent, record->diff) == chain)
        layers_.insert_or_assign(chain, std::move(*record));
    else if (!vouched_.contains(chain))
        doubtful_layers_.insert(chain);
}

OVERMOUNT_LAZY_BODY void collection_marks::add_diff(const diff_id& id) { there_.insert({kept_kind::diff, id.value()}); }

OVERMOUNT_LAZY_BODY void collection_marks::add_old_tree(const diff_id& id, std::uint32_t number)
{
    there_.insert({kept_kind::old_tree, id.value(), number});
}

OVERMOUNT_LAZY_BODY void collection_marks::add_document(const digest& id, std::optional<document_links> links)
{
    const kept_thing one{kept_kind::manifest, id};
    there_.insert(one);
    if (!links) {
        damaged_documents_.insert(id);
        return;
    }
    const auto& kept = documents_.insert_or_assign(id, std::move(*links)).first->second;
    if (kept.config) {
        manifests_of_.emplace(*kept.config, id);
        if (images_.contains(*kept.config))
            need(one);
    } else {
        for (const digest& manifest : kept.names)
            indexes_of_.emplace(manifest, id);
        if (std::any_of(kept.names.begin(), kept.names.end(),
                        [this](const digest& name) { return is_needed({kept_kind::manifest, name}); }))
            need(one);
    }
    if (is_needed(one)) // it was marked as needed before its links were known
        for (const kept_thing& next : references_of(one))
            need(next);
}

OVERMOUNT_LAZY_BODY void collection_marks::add_blob(const digest& id) { there_.insert({kept_kind::blob, id}); }

OVERMOUNT_LAZY_BODY void collection_marks::need_image(const digest& id, const std::vector<diff_id>& diffs)
{
    for (const auto& [chain, layer] : chain_of(diffs)) {
        vouched_.insert(chain);
        doubtful_layers_.erase(chain);
        needed_.insert({kept_kind::layer, chain.value()});
        needed_.insert({kept_kind::diff, layer.diff.value()});
    }
    need_manifests_of(id);
}

OVERMOUNT_LAZY_BODY void collection_marks::need_manifests_of(const digest& image)
{
    if (!images_.insert(image).second)
        return;
    const auto [begin, end] = manifests_of_.equal_range(image);
    for (auto at = begin; at != end; ++at)
        need({kept_kind::manifest, at->second});
}

OVERMOUNT_LAZY_BODY void collection_marks::need_indexes_of(const digest& manifest)
{
    const auto [begin, end] = indexes_of_.equal_range(manifest);
    for (auto at = begin; at != end; ++at)
        need({kept_kind::manifest, at->second});
}

OVERMOUNT_LAZY_BODY void collection_marks::need(const lease_line& line)
{
    switch (line.kind) {
    case leased_kind::layer: return need({kept_kind::layer, line.id});
    case leased_kind::diff: need_trees_of(line.id); return need({kept_kind::diff, line.id});
    case leased_kind::image: return need_manifests_of(line.id);
    case leased_kind::manifest: return need({kept_kind::manifest, line.id});
    case leased_kind::blob: return need({kept_kind::blob, line.id});
    }
}

OVERMOUNT_LAZY_BODY void collection_marks::need(const kept_thing& one)
{
    std::vector<kept_thing> todo{one};
    while (!todo.empty()) {
        const kept_thing next = std::move(todo.back());
        todo.pop_back();
        if (!needed_.insert(next).second && next.kind != kept_kind::layer)
            continue;
        // Follow a layer even if it is already needed: it may have been marked before its record was known.
        for (kept_thing& below : references_of(next))
            if (!needed_.contains(below))
                todo.push_back(std::move(below));
        if (next.kind == kept_kind::manifest)
            need_indexes_of(next.id);
    }
}

OVERMOUNT_LAZY_BODY void collection_marks::need_parents()
{
    for (const auto& [chain, record] : layers_)
        if (record.parent)
            need({kept_kind::layer, record.parent->value()});
}

OVERMOUNT_LAZY_BODY std::vector<kept_thing> collection_marks::references_of(const kept_thing& one) const
{
    std::vector<kept_thing> out;
    if (one.kind == kept_kind::layer) {
        if (const auto found = layers_.find(chain_id(one.id)); found != layers_.end()) {
            out.push_back({kept_kind::diff, found->second.diff.value()});
            if (found->second.parent)
                out.push_back({kept_kind::layer, found->second.parent->value()});
        }
    } else if (one.kind == kept_kind::manifest || one.kind == kept_kind::blob) {
        const auto found = documents_.find(one.id);
        if (found == documents_.end() || !found->second.config)
            return out; // an index is needed by its manifests, but does not need them
            // If the manifest is kept as a blob, so are the others.
        if (one.kind == kept_kind::manifest)
            out.push_back({kept_kind::blob, one.id});
        for (const digest& name : found->second.names)
            out.push_back({kept_kind::blob, name});
    }
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<kept_thing> collection_marks::needs_of(const digest& image, const std::vector<diff_id>& diffs) const
{
    std::vector<kept_thing> out;
    for (const diff_id& diff : diffs)
        out.push_back({kept_kind::diff, diff.value()});
    const auto [begin, end] = manifests_of_.equal_range(image);
    for (auto at = begin; at != end; ++at) {
        const kept_thing manifest{kept_kind::manifest, at->second};
        for (kept_thing& blob : references_of(manifest))
            out.push_back(std::move(blob));
        out.push_back(manifest);
    }
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

OVERMOUNT_LAZY_BODY bool collection_marks::is_unneeded(const kept_thing& one) const
{
    if (!is_there(one) || is_needed(one))
        return false;
    if (one.kind == kept_kind::old_tree && held_.contains(one.id))
        return false;
    if (one.kind == kept_kind::manifest || one.kind == kept_kind::blob)
        return damaged_documents_.empty();
    return one.kind == kept_kind::old_tree || doubtful_layers_.empty();
}

OVERMOUNT_LAZY_BODY std::vector<kept_thing> collection_marks::doubtful() const
{
    std::vector<kept_thing> out;
    for (const chain_id& chain : doubtful_layers_)
        out.push_back({kept_kind::layer, chain.value()});
    for (const digest& id : damaged_documents_)
        out.push_back({kept_kind::manifest, id});
    std::sort(out.begin(), out.end());
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<std::vector<kept_thing>> collection_marks::waves() const
{
    // For each unneeded object, how many other unneeded objects refer to it.
    std::unordered_map<kept_thing, std::size_t, kept_thing_hash> referrers;
    for (const kept_thing& one : there_)
        if (is_unneeded(one))
            referrers.emplace(one, 0);
    for (const auto& [one, count] : referrers)
        for (const kept_thing& below : references_of(one))
            if (const auto found = referrers.find(below); found != referrers.end() && below != one)
                ++found->second;
    std::vector<std::vector<kept_thing>> out;
    std::vector<kept_thing> wave;
    for (const auto& [one, count] : referrers)
        if (count == 0)
            wave.push_back(one);
    while (!wave.empty()) {
        std::vector<kept_thing> next;
        for (const kept_thing& one : wave)
            for (const kept_thing& below : references_of(one))
                if (const auto found = referrers.find(below); found != referrers.end() && below != one && --found->second == 0)
                    next.push_back(below);
        std::sort(wave.begin(), wave.end());
        out.push_back(std::exchange(wave, std::move(next)));
    }
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
