#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_KEPT_BLOBS_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_KEPT_BLOBS_HPP

#include <overmount/repository/operations/blob_keep.hpp>
#include <overmount/repository/operations/layer_engine.hpp>
#include <overmount/runtime/run_on.hpp>

#include <map>
#include <memory>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Keeps the blobs of an import's layers. A layer's blob is written while the layer is unpacked. If the diff already existed, so that
// the layer is not unpacked, the blob alone is read.
template <storage_policy Storage>
class kept_blobs
{
public:
    using engine = layer_engine<Storage>;

    // \param draft the draft of a blob that is already written and verified, else null
    void add(const found_layer& layer, std::shared_ptr<blob_draft> draft)
    {
        const bool compared = draft != nullptr;
        all_.try_emplace({*layer.blob, layer.diff}, one{&layer, std::move(draft), compared});
    }

    // Called on a worker thread before the layer is unpacked: begins a draft, unless the blob already exists.
    void begin(const engine& with, const found_layer& layer)
    {
        if (one* const blob = find(layer); blob != nullptr && !blob->draft)
            begin(with, *blob);
    }
    // The draft to write while the layer is read; null if there is none.
    [[nodiscard]] std::shared_ptr<blob_draft> draft_of(const found_layer& layer)
    {
        const one* const blob = find(layer);
        return blob != nullptr ? blob->draft : nullptr;
    }
    // Called when the layer was read and has the digests of its blob and its diff.
    void compared(const found_layer& layer)
    {
        if (one* const blob = find(layer); blob != nullptr)
            blob->compared = true;
    }

    // Reads and verifies the blobs of layers that were not unpacked. `self` must outlive the operation.
    static asio::awaitable<void> compare(std::shared_ptr<engine> with, kept_blobs* self)
    {
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (auto& [key, blob] : self->all_)
            if (!blob.compared)
                group->add(compare_one(with, self, &blob));
        co_await task_group::join(std::move(group));
    }

    // Publishes all blobs. Runs on a worker thread, after all were verified.
    void publish(engine& with)
    {
        const auto& repository = with.repository();
        with.sync();
        for (auto& [key, blob] : all_)
            if (blob.draft)
                blob.draft->publish(*repository.records, key.first);
            else if (repository.sync != durability::none)
                repository.records->blobs.make_durable(key.first, with.staging());
    }
    void clear() { all_.clear(); }

private:
    struct one
    {
        const found_layer* layer;
        std::shared_ptr<blob_draft> draft;
        bool compared; // verified: it has the digests of the blob and the diff
    };

    [[nodiscard]] one* find(const found_layer& layer)
    {
        const auto found = layer.blob ? all_.find({*layer.blob, layer.diff}) : all_.end();
        return found == all_.end() ? nullptr : &found->second;
    }

    void begin(const engine& with, one& blob) const
    {
        const auto& repository = with.repository();
        const auto size = blob.layer->bytes.size();
        if (!size || !repository.records->blobs.contains(*blob.layer->blob, *size))
            blob.draft = new_shared<blob_draft>(with.staging(), "blob-" + random_id(), repository.sync);
    }

    static asio::awaitable<void> compare_one(std::shared_ptr<engine> with, kept_blobs* self, one* blob)
    {
        const found_layer& layer = *blob->layer;
        try {
            const auto permit = co_await with->permits(layer.bytes.file() != nullptr).acquire();
            auto begin = [with, self, blob](const stop_flag&) {
                self->begin(*with, *blob);
                const layer_facts facts{blob->layer->diff, blob->layer->blob, blob->layer->promised};
                return new_shared<layer_work<null_writer>>(null_writer(), facts, with->repository().bounds);
            };
            auto begun = co_await run_on(with->pool(), std::move(begin));
            co_await engine::unpack(with->pool(), std::move(begun), layer.bytes, blob->draft);
            blob->compared = true;
        } catch (error& failure) {
            failure.layer(layer.diff.string());
            throw;
        }
    }

    // By blob and diff: one diff may come in several blobs.
    std::map<std::pair<digest, diff_id>, one> all_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
