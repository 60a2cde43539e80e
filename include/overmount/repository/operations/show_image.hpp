#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_SHOW_IMAGE_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_SHOW_IMAGE_HPP

#include <overmount/importer/importer.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/repository/operations/blob_keep.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/task_group.hpp>

#include <ctime>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

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

// The chain of an image's layers, the top last, and what is kept of each.
OVERMOUNT_LAZY [[nodiscard]] inline std::vector<std::pair<chain_id, layer_record>> chain_of(const found_image& image)
{
    std::vector<std::pair<chain_id, layer_record>> layers;
    std::optional<chain_id> parent;
    for (const diff_id& diff : image.config.diff_ids()) {
        const chain_id chain = parent ? chain_id::of(*parent, diff) : chain_id::of(diff);
        layers.emplace_back(chain, layer_record{diff, parent});
        parent = chain;
    }
    return layers;
}

// What shows an image whose diffs are published: its layers, what a mount of them needs, and what the image has of its own.
// Each on a worker, with the repository's lock held over all of them.
template <storage_policy Storage>
class image_display
{
public:
    // `owner` keeps the others alive, where workers have a part in it.
    image_display(repository_state<Storage>& state, const found_image& image, const import_options& options,
                  const known_records& known, std::shared_ptr<const void> owner = {})
        : repository_(&state), image_(&image), options_(&options), known_(&known), owner_(std::move(owner)),
          chain_(chain_of(image))
    {}

    void show_layers()
    {
        guard_.emplace(repository_->records->lock_shared());
        // Also where another process published: it may not have come to this.
        repository_->sync_published();
        repository_->records->put_layers(chain_, repository_->sync);
    }

    // Of published diffs: the layers need not be there.
    void find_correction()
    {
        const auto& diffs = image_->config.diff_ids();
        if (!chain_.empty())
            correction_ = repository_->find_correction(chain_.back().first, {diffs.rbegin(), diffs.rend()}, *known_);
    }

    // The image, children before parents, the tag last.
    void show()
    {
        if (correction_)
            repository_->write_correction(chain_.back().first, *correction_);
        correction_.reset();
        store& records = *repository_->records;
        const durability sync = repository_->sync;
        const auto put = [&](const std::optional<std::string>& text) -> std::optional<digest> {
            if (!text)
                return std::nullopt;
            const digest id = digest::of(*text);
            records.put_manifest(id, *text, sync);
            return id;
        };
        const std::optional<digest> index = put(image_->index), manifest = put(image_->manifest);
        if (options_->keeps_blobs() && has_blobs(*image_))
            keep_documents(records, *image_, sync);
        records.put_image(image_->config.id(), image_->config.bytes(), sync);
        std::vector<std::string> names = image_->tags;
        for (const std::string& tag : options_->tags())
            names.push_back(reference::parse(tag).with_default_tag().string());
        for (const std::string& name : names)
            records.put_tag({name, image_->config.id(), manifest, image_->source, timestamp_now(), index}, sync);
        guard_.reset();
    }

    // By two workers where there is enough for both.
    static asio::awaitable<void> run(std::shared_ptr<image_display> self)
    {
        constexpr std::size_t many = 16;
        const worker_pool& pool = self->repository_->pool;
        auto layers = [self](const stop_flag&) { self->show_layers(); };
        auto find = [self](const stop_flag&) { self->find_correction(); };
        auto all = [self](const stop_flag&) {
            if (self->chain_.size() < many) {
                self->show_layers();
                self->find_correction();
            }
            self->show();
        };
        if (self->chain_.size() >= many) {
            auto group = new_shared<task_group>(co_await asio::this_coro::executor);
            group->add(run_on(pool, std::move(layers)));
            group->add(run_on(pool, std::move(find)));
            co_await task_group::join(std::move(group));
        }
        co_await run_on(pool, std::move(all));
    }

private:
    repository_state<Storage>* repository_;
    const found_image* image_;
    const import_options* options_;
    const known_records* known_;
    std::shared_ptr<const void> owner_;
    std::vector<std::pair<chain_id, layer_record>> chain_;
    std::optional<file_lock> guard_;
    std::unique_ptr<found_correction> correction_;
};

// All of it on this worker.
template <storage_policy Storage>
void show_image(repository_state<Storage>& repository, const found_image& image, const import_options& options,
                const known_records& known = {})
{
    image_display<Storage> one(repository, image, options, known);
    one.show_layers();
    one.find_correction();
    one.show();
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
