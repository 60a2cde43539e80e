#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CONFIRM_TAG_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CONFIRM_TAG_HPP

#include <overmount/repository/operations/publication.hpp>
#include <overmount/repository/records/damage.hpp>

#include <optional>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// Whether the image and its layers are there and believed, and durable if the repository's durability asks for that.
template <storage_policy Storage>
[[nodiscard]] bool is_kept(const repository_state<Storage>& owner, const digest& id)
{
    const auto text = owner.records->image(id);
    if (!text || digest::of(*text, id.algorithm()) != id)
        return false;
    for (const auto& [chain, layer] : chain_of(image_config::parse(*text, owner.bounds).diff_ids())) {
        if (owner.is_damaged(layer.diff) || !owner.storage.contains(layer.diff) || !owner.records->layers.find(chain))
            return false;
        if (owner.sync != durability::none && owner.storage.record(layer.diff).sync == durability::none)
            return false;
    }
    return owner.sync == durability::none || owner.records->image_files.is_durable(id);
}

// See `basic_repository::confirm_tag`. Somebody may have written the tag and its documents without durability: they are synced. Runs
// on a worker thread, under the lock of the roots if it may write.
template <storage_policy Storage>
[[nodiscard]] bool confirm_tag(const repository_state<Storage>& owner, const std::string& name)
{
    const store& records = *owner.records;
    const std::optional<tag_record> tag = records.tag(name);
    if (!tag)
        throw error(errc::tag_not_found).at(stage::repository).subject(name);
    record_batch kept(records.staging.fd(), owner.sync);
    try {
        for (const auto& document : {tag->manifest, tag->index}) {
            if (!document)
                continue;
            const auto text = records.manifests.find(*document);
            if (!text || digest::of(*text, document->algorithm()) != *document)
                return false;
            records.manifests.add(kept, *document, *text);
        }
        const auto in_place = records.tag_files.find(name); // not in the record of an import that died
        if (!in_place || tag_text(*in_place) != tag_text(*tag) || !is_kept(owner, tag->image))
            return false;
    } catch (const error& failure) {
        if (!is_damage(failure))
            throw;
        return false;
    }
    if (owner.sync == durability::none || records.read_only())
        return true;
    // A sync that fails is reported: another one would succeed without having stored anything.
    records.imports.make_removals_last(); // otherwise an older import may reappear after a crash and restore its tag
    records.tag_files.keep(kept, *tag);
    kept.sync_drafts();
    kept.publish();
    return true;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
