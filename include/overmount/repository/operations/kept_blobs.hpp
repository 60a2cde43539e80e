#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_KEPT_BLOBS_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_KEPT_BLOBS_HPP

#include <overmount/repository/operations/blob_keep.hpp>
#include <overmount/repository/operations/layer_engine.hpp>
#include <overmount/runtime/run_on.hpp>

#include <map>
#include <memory>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// The blobs of an import's layers that are to be kept. A layer's is written while it is unpacked; what was not unpacked is read
// for its blob alone.
template <storage_policy Storage>
class kept_blobs
{
public:
    using engine = layer_engine<Storage>;

    // \param draft where it was written and compared before
    void add(const found_layer& layer, std::shared_ptr<blob_draft> draft)
    {
        const bool compared = draft != nullptr;
        all_.try_emplace({*layer.blob, layer.diff}, one{&layer, std::move(draft), compared});
    }

    // When the layer is begun, on a worker: unless the blob is there already.
    void begin(const engine& with, const found_layer& layer)
    {
        if (one* const blob = find(layer); blob != nullptr && !blob->draft)
            begin(with, *blob);
    }
    // Where it is to be written while it is read; nothing where it is not.
    [[nodiscard]] std::shared_ptr<blob_draft> draft_of(const found_layer& layer)
    {
        const one* const blob = find(layer);
        return blob != nullptr ? blob->draft : nullptr;
    }
    // The layer was read, and has the digests of its blob and its diff.
    void compared(const found_layer& layer)
    {
        if (one* const blob = find(layer); blob != nullptr)
            blob->compared = true;
    }

    // Blobs of layers that were not unpacked are only compared. `self` lives until the end.
    static asio::awaitable<void> compare(std::shared_ptr<engine> with, kept_blobs* self)
    {
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (auto& [key, blob] : self->all_)
            if (!blob.compared)
                group->add(compare_one(with, self, &blob));
        co_await task_group::join(std::move(group));
    }

    // On a worker, when all were compared.
    void show(engine& with)
    {
        const auto& repository = with.repository();
        with.sync();
        for (auto& [key, blob] : all_)
            if (blob.draft)
                blob.draft->publish(*repository.records, key.first);
            else if (repository.sync != durability::none)
                repository.records->blobs.make_last(key.first, with.staging());
    }
    void clear() { all_.clear(); }

private:
    struct one
    {
        const found_layer* layer;
        std::shared_ptr<blob_draft> draft;
        bool compared; // with its digest and the diff's
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
            const auto permit = co_await with->places(layer.bytes.file() != nullptr).acquire();
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

    // The blob of a layer; a diff may come in several.
    std::map<std::pair<digest, diff_id>, one> all_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
