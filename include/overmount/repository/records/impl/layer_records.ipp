#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_LAYER_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_LAYER_RECORDS_IPP

#include <overmount/oci/detail/json_record.hpp>
#include <overmount/repository/records/layer_records.hpp>
#include <overmount/storage/diff_record.hpp>
#include <overmount/storage/impl/diff_record.ipp>

namespace overmount::OVERMOUNT_ABI::detail {

inline std::string text_of(const layer_record& record)
{
    json_record content;
    content.text("diff_id", record.diff.string());
    if (record.parent)
        content.text("parent", record.parent->string());
    else
        content.null("parent");
    return content.string();
}

OVERMOUNT_DECL void layer_records::add(record_batch& into, const chain_id& chain, const layer_record& record) const
{
    into.add_directory(directory_, digest_path(chain.value()), {{"layer.json", text_of(record)}});
}

OVERMOUNT_DECL void layer_records::put_again(int staging, const chain_id& chain, const layer_record& record,
                                                  durability sync) const
{
    record_batch whole(staging, sync);
    add(whole, chain, record);
    whole.sync_drafts();
    whole.publish();
    const unique_fd there = open_directory(directory_, digest_path(chain.value()));
    put_record(staging, there.get(), "layer.json", text_of(record), sync, existing::replace);
}

OVERMOUNT_DECL std::optional<layer_record> layer_records::find(const chain_id& chain) const
{
    const std::string name = digest_path(chain.value()) + "/layer.json";
    const auto text = read_file(directory_, name, record_limit);
    if (!text)
        return std::nullopt;
    std::optional<digest> diff, parent;
    const auto read = [&] {
        read_record(*text, json_object({{"diff_id", json_digest(diff).required()},
                                        {"parent", json_digest(parent).required_or_null()}}));
    };
    in_record("layers/" + name, read);
    layer_record out{diff_id(*diff), std::nullopt};
    if (parent)
        out.parent = chain_id(*parent);
    return out;
}

OVERMOUNT_DECL std::optional<layer_record> layer_records::find_own(const chain_id& chain) const
{
    auto found = find(chain);
    if (!found)
        return std::nullopt;
    // A chain ID is a digest of all layers below it: records with the right one cannot form a cycle.
    const chain_id actual = chain_id::of(found->parent, found->diff);
    if (actual != chain)
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .layer(chain.string())
            .subject(layer_path(chain) + "/layer.json")
            .detail("it is the record of the layer " + actual.string());
    return found;
}

OVERMOUNT_DECL std::vector<layer_record> layer_records::chain(const chain_id& top) const
{
    std::vector<layer_record> out;
    for (std::optional<chain_id> next = top; next;) {
        auto found = find_own(*next);
        if (!found)
            throw error(out.empty() ? errc::layer_not_found : errc::parent_not_mounted)
                .at(stage::repository)
                .layer(next->string());
        next = found->parent;
        out.push_back(std::move(*found));
    }
    return out;
}

OVERMOUNT_DECL std::vector<chain_id> layer_records::list() const
{
    std::vector<chain_id> out;
    for (const digest& id : listed_digests(directory_))
        out.emplace_back(id);
    return out;
}

OVERMOUNT_DECL bool layer_records::remove(int staging, const chain_id& chain, durability sync) const
{
    return remove_record(staging, directory_, digest_path(chain.value()), sync);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
