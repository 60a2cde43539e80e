#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_EXPORT_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_EXPORT_RUN_HPP

#include <overmount/exporter/any_exporter.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/posix/scratch_directory.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/asset_read.hpp>
#include <overmount/repository/operations/work_scope.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// A name that the user asked for. A text with neither slash nor colon, such as `latest`, is not an image name.
OVERMOUNT_LAZY [[nodiscard]] inline offered_name name_as_given(const std::string& text)
{
    if (text.empty() || !std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; }))
        throw error(errc::invalid_reference).at(stage::target).subject(text);
    offered_name out{text, {}};
    try {
        if (text.find_first_of("/:") != std::string::npos)
            out.image_name = reference::parse(text).with_default_tag().string();
    } catch (const error&) {
        // an OCI ref name may be any text
    }
    return out;
}

// The name of a repository tag, as containerd writes it: the tag alone as the reference, and the full image name.
OVERMOUNT_LAZY [[nodiscard]] inline offered_name name_of_tag(const std::string& full)
{
    const reference parsed = reference::parse(full);
    return {parsed.tag() ? *parsed.tag() : full, full};
}

// Reads a kept blob.
class stored_blob final : public layer_reader
{
public:
    OVERMOUNT_LAZY stored_blob(const store& records, const digest& id) : fd_(records.blobs.open(id))
    {
        if (!fd_)
            throw error(errc::missing_blob).at(stage::storage).subject(id.string());
    }
    std::size_t read(std::span<std::byte> into) override { return read_some(fd_.get(), into); }

private:
    unique_fd fd_;
};

// The manifests to try for an exported image, in order and each once: those of the tags under which it is exported, those of its
// other tags, and all others.
OVERMOUNT_LAZY
[[nodiscard]] inline std::vector<digest> manifests_to_try(const digest& image, const std::vector<offered_name>& names,
                                                          const std::vector<tag_record>& tags,
                                                          const std::vector<digest>& all)
{
    std::vector<digest> out;
    const auto exported = [&names](const tag_record& tag) {
        return std::any_of(names.begin(), names.end(),
                           [&tag](const offered_name& name) { return name.image_name == tag.name; });
    };
    const auto add = [&out](const digest& id) {
        if (std::find(out.begin(), out.end(), id) == out.end())
            out.push_back(id);
    };
    for (const bool named : {true, false})
        for (const tag_record& tag : tags)
            if (tag.image == image && tag.manifest && (!named || exported(tag)))
                add(*tag.manifest);
    for (const digest& id : all)
        add(id);
    return out;
}

// Exports images. Leases their layers and blobs meanwhile.
template <packable_storage Storage>
class export_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<export_run>;

    export_run(std::shared_ptr<state> owner, std::vector<std::shared_ptr<const image_config>> images,
               export_options options)
        : repository_(std::move(owner)), images_(std::move(images)), options_(std::move(options))
    {
    }

    static asio::awaitable<void> run(pointer self, any_exporter target)
    {
        auto offer = [self](const stop_flag&) { return self->offer(); };
        auto images = co_await run_on(self->repository_->pool, std::move(offer));
        if (!self->repository_->records->read_only()) { // no collection can run there
            auto lease = [self](const stop_flag&) { self->lease(); };
            co_await run_locked(self->repository_, lock_kind::shared, std::move(lease));
        }
        export_context context(self->repository_->pool, self->options_.encoding().value_or(layer_encoding()),
                               self->repository_->sync, self->scratch_);
        co_await target.write(std::move(images), std::move(context));
    }

    // On a worker.
    void clean()
    {
        scope_->clean();
        outside_scratch_.reset();
    }

private:
    // Under the lock: `offer` found the objects without it, so verify that they still exist, and lease them.
    void lease()
    {
        for (const diff_id& diff : diffs_)
            if (!repository_->is_there(diff))
                throw error(errc::layer_not_found).at(stage::storage).layer(diff.string());
        lease_content content;
        for (const diff_id& diff : diffs_)
            content.diff(diff);
        for (const digest& blob : blobs_) {
            if (!repository_->records->blobs.open(blob))
                throw error(errc::missing_blob).at(stage::storage).subject(blob.string());
            content.blob(blob);
        }
        scope_->open(content);
        *scratch_ = open_directory(scope_->staging(), ".");
    }

    std::vector<offered_image> offer()
    {
        const store& records = *repository_->records;
        if (records.read_only()) {
            outside_scratch_ = new_shared<scratch_directory>();
            *scratch_ = open_directory(outside_scratch_->directory(), ".");
        }
        const std::vector<tag_record> tags = records.tags();
        std::vector<offered_image> out;
        for (const auto& config : images_) {
            if (std::any_of(out.begin(), out.end(), [&](const auto& one) { return one.config.id() == config->id(); }))
                continue;
            offered_image image{*config, {}, {}};
            for (const diff_id& diff : config->diff_ids()) {
                if (!options_.accepts_damaged() || !repository_->is_damaged(diff))
                    repository_->require_believed(diff);
                auto open = [owner = repository_, diff] { return std::make_unique<stored_tar<layer_reader, Storage>>(owner, diff); };
                image.layers.push_back({diff, repository_->storage.record(diff).bytes, std::move(open)});
                diffs_.push_back(diff);
            }
            for (const auto& [id, name] : options_.names())
                if (id == config->id())
                    image.names.push_back(name_as_given(name));
            if (image.names.empty())
                for (const tag_record& tag : tags)
                    if (tag.image == config->id())
                        image.names.push_back(name_of_tag(tag.name));
            if (!options_.encoding() && !records.blobs.list().empty())
                image.kept = find_kept(image, tags);
            out.push_back(std::move(image));
        }
        return out;
    }

    [[nodiscard]] std::optional<kept_manifest> find_kept(const offered_image& image,
                                                         const std::vector<tag_record>& tags)
    {
        const store& records = *repository_->records;
        for (const digest& id : manifests_to_try(image.config.id(), image.names, tags, records.manifests.list()))
            if (auto text = records.manifests.find(id); text && digest::of(*text, id.algorithm()) == id)
                if (auto kept = read_kept(image, id, std::move(*text))) {
                    for (const kept_blob& blob : kept->blobs)
                        blobs_.push_back(blob.id);
                    return kept;
                }
        return std::nullopt;
    }

    // nullopt if the manifest is of another image, or if not all its blobs are kept. If the manifest itself is kept as a blob, its blobs
    // were verified against the diffs.
    [[nodiscard]] std::optional<kept_manifest> read_kept(const offered_image& image, const digest& id,
                                                         std::string text) const
    {
        const store& records = *repository_->records;
        if (!records.blobs.contains(id, text.size()))
            return std::nullopt;
        const manifest parsed = manifest::parse(std::move(text), repository_->bounds);
        if (parsed.config().digest() != image.config.id() || parsed.layers().size() != image.layers.size())
            return std::nullopt;
        kept_manifest out{parsed.bytes(), parsed.media_type(), {}};
        for (const layer_descriptor& layer : parsed.layers()) {
            const digest& blob = layer.blob.digest();
            if (!records.blobs.contains(blob, layer.blob.size()))
                return std::nullopt;
            auto open = [owner = repository_, blob] { return std::make_unique<stored_blob>(*owner->records, blob); };
            out.blobs.push_back({blob, layer.blob.size(), std::move(open)});
        }
        return out;
    }

    std::shared_ptr<state> repository_;
    std::vector<std::shared_ptr<const image_config>> images_;
    export_options options_;
    std::vector<diff_id> diffs_; // of the images
    std::vector<digest> blobs_;  // exported unchanged
    std::shared_ptr<unique_fd> scratch_ = new_shared<unique_fd>();
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::shared_ptr<scratch_directory> outside_scratch_; // for a repository that is read-only
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
