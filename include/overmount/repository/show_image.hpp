#ifndef OVERMOUNT_REPOSITORY_SHOW_IMAGE_HPP
#define OVERMOUNT_REPOSITORY_SHOW_IMAGE_HPP

#include <overmount/concepts/importer.hpp>
#include <overmount/reference.hpp>
#include <overmount/repository/blob_keep.hpp>
#include <overmount/repository/state.hpp>

#include <ctime>

namespace overmount::inline OVERMOUNT_ABI::detail {

// A time by RFC 3339, to the second.
OVERMOUNT_LAZY [[nodiscard]] inline std::string timestamp_of(std::time_t seconds)
{
    std::tm parts{};
    if (::gmtime_r(&seconds, &parts) == nullptr)
        throw error::from_errno(EOVERFLOW).operation("gmtime");
    char text[32];
    return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}
OVERMOUNT_LAZY [[nodiscard]] inline std::string timestamp_now() { return timestamp_of(std::time(nullptr)); }

// Makes an image visible whose diffs are, and the blobs that are to be kept: children before parents, the tag last. On a worker.
template <storage_policy Storage>
void show_image(repository_state<Storage>& repository, const found_image& image,
                const import_options& options, const known_records& known = {})
{
    store& records = *repository.records;
    const file_lock guard = records.lock_shared();
    // Also where another process published: it may not have come to this.
    repository.sync_published();
    std::vector<std::pair<chain_id, layer_record>> layers;
    std::optional<chain_id> parent;
    for (const diff_id& diff : image.config.diff_ids()) {
        const chain_id chain = parent ? chain_id::of(*parent, diff) : chain_id::of(diff);
        layers.emplace_back(chain, layer_record{diff, parent});
        parent = chain;
    }
    records.put_layers(layers, repository.sync);
    if (parent) {
        const auto& diffs = image.config.diff_ids();
        repository.ensure_correction(*parent, {diffs.rbegin(), diffs.rend()}, known);
    }
    const auto put = [&](const std::optional<std::string>& text) -> std::optional<digest> {
        if (!text)
            return std::nullopt;
        const digest id = digest::of(*text);
        records.put_manifest(id, *text, repository.sync);
        return id;
    };
    const std::optional<digest> index = put(image.index), manifest = put(image.manifest);
    if (options.keeps_blobs() && has_blobs(image))
        keep_documents(records, image, repository.sync);
    records.put_image(image.config.id(), image.config.bytes(), repository.sync);
    std::vector<std::string> names = image.tags;
    for (const std::string& tag : options.tags())
        names.push_back(reference::parse(tag).with_default_tag().string());
    for (const std::string& name : names)
        records.put_tag({name, image.config.id(), manifest, image.source, timestamp_now(), index},
                        repository.sync);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
