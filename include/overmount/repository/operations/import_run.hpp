#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_IMPORT_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_IMPORT_RUN_HPP

#include <overmount/repository/operations/blob_keep.hpp>
#include <overmount/repository/operations/claim_beat.hpp>
#include <overmount/repository/operations/finished_diffs.hpp>
#include <overmount/repository/operations/publication.hpp>
#include <overmount/posix/descriptor_turn.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/task_group.hpp>
#include <overmount/unpack/pipeline.hpp>

#include <algorithm>
#include <chrono>
#include <deque>
#include <iterator>
#include <list>
#include <map>
#include <mutex>
#include <set>

namespace overmount::inline OVERMOUNT_ABI::detail {

// One import at work: what is to be unpacked, and what is finished and waits to be shown. Shared by the
// coroutines of the import and by the workers that act for it.
//
// Layers that nobody else unpacks are claimed, unpacked and shown in one round; what another operation or
// process has claimed is waited for only then, so that two imports never wait for each other. A claim takes a
// descriptor until its layer is shown: a round has as many layers as the process can spare.
template <storage_policy Storage>
class import_run : public std::enable_shared_from_this<import_run<Storage>>
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<import_run>;

    import_run(std::shared_ptr<state> owner, std::vector<found_image> found, import_options options)
        : repository_(std::move(owner)), images_(std::move(found)), options_(std::move(options))
    {}

    [[nodiscard]] const std::vector<found_image>& images() const noexcept { return images_; }

    static asio::awaitable<void> run(pointer self)
    {
        self->names_ = full_names(self->options_.tags()); // before anything is read
        self->plan();
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(begin));
        auto draft = [self](const stop_flag&) { self->draft(); };
        co_await run_on(self->repository_->pool, std::move(draft));
        while (!self->todo_.empty()) {
            const std::size_t before = self->todo_.size();
            self->begin_round();
            auto beat = [self] { self->beat(); };
            co_await claim_beat::during(self->repository_->pool, one_round(self), std::move(beat));
            self->todo_.splice(self->todo_.end(), self->round_);
            if (self->todo_.size() == before) // others have them all
                co_await pause(std::chrono::milliseconds(50));
        }
        if (self->options_.keeps_blobs())
            co_await keep_blobs(self);
        co_await publication<Storage>::run(self->end_, &self->finished_->published());
    }

    // Removes what is left of the import, finished or not. On a worker.
    void clean()
    {
        finished_->drop();
        round_.clear();
        todo_.clear();
        blobs_.clear();
        end_.reset();
        scope_->clean();
    }

private:
    // Bytes of a blob up to which one worker does all of a layer: handing it on takes longer than its parts side by side
    // would win.
    static constexpr std::uint64_t small_blob = 64 << 10;

    // Layers that a worker takes at a time, where each is a small work: others get their turn in between.
    static constexpr std::size_t some = 16;

    struct job
    {
        job(const found_layer& found, std::string named) : layer(&found), name(std::move(named)) {}
        const found_layer* layer; // of the images
        std::string name;
        std::int64_t claim_seen = 0; // of the other one who has it
        std::chrono::steady_clock::time_point claim_since{};
        bool alone = false;                // the other one stands still
        std::shared_ptr<claim> held; // ours
    };
    using work = layer_work<typename Storage::writer>;
    // The blob of a layer; a diff may come in several.
    using blob_key = std::pair<digest, diff_id>;
    struct kept
    {
        const found_layer* layer;
        std::shared_ptr<blob_draft> draft = {};
        bool compared = false; // with its digest and the diff's
    };

    void plan()
    {
        std::set<diff_id> known;
        for (const found_image& image : images_)
            for (const found_layer& layer : image.layers)
                if (known.insert(layer.diff).second)
                    todo_.emplace_back(layer, "layer-" + std::to_string(todo_.size()));
        for (const found_image& image : images_)
            if (options_.keeps_blobs() && has_blobs(image))
                for (const found_layer& layer : image.layers)
                    blobs_.try_emplace({*layer.blob, layer.diff}, kept{&layer});
    }

    // Under the lock: what is there now stays.
    void begin()
    {
        lease_content lease;
        for (const found_image& image : images_) {
            publication<Storage>::lease_image(lease, image);
            if (options_.keeps_blobs() && has_blobs(image))
                lease_blobs(lease, image);
        }
        scope_->open(lease);
        std::erase_if(todo_, [this](const job& j) { return repository_->storage.contains(j.layer->diff); });
    }

    void draft()
    {
        // Largest first: the last one to end should be a small one.
        todo_.sort([](const job& a, const job& b) { return a.layer->bytes.size() > b.layer->bytes.size(); });
        for (const found_image& image : images_) {
            std::vector<std::string> names = image.tags;
            names.insert(names.end(), names_.begin(), names_.end());
            end_->add_image(image, names, options_.keeps_blobs() && has_blobs(image));
        }
        end_->write();
    }

    // Every second, on a worker.
    void beat()
    {
        std::vector<std::shared_ptr<claim>> held;
        finished_->list_claims(held);
        {
            const std::lock_guard guard(mutex_);
            for (const job& j : round_)
                if (j.held)
                    held.push_back(j.held);
        }
        for (const auto& one : held)
            one->beat();
    }

    void begin_round()
    {
        constexpr std::size_t fewest = 8;
        const std::size_t most = std::max(free_descriptors() / 4, fewest);
        auto end = todo_.begin();
        std::advance(end, static_cast<std::ptrdiff_t>(std::min(most, todo_.size())));
        round_.splice(round_.end(), todo_, todo_.begin(), end);
    }

    static asio::awaitable<void> one_round(pointer self)
    {
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (job& j : self->round_) {
            if (j.layer->bytes.size() <= small_blob)
                self->small_.push_back(&j);
            else
                group->add(one_layer(self, &j));
        }
        const std::size_t lanes = std::min<std::size_t>(self->small_.size(), self->repository_->pool.workers());
        for (std::size_t lane = 0; lane < lanes; ++lane)
            group->add(small_layers(self));
        co_await task_group::join(std::move(group));
        const bool synced = self->finished_->any() && self->repository_->sync == durability::batch;
        co_await finished_diffs<Storage>::publish(self->finished_);
        if (synced)
            self->end_->synced();
        co_await end_round(self);
    }

    static asio::awaitable<void> one_layer(pointer self, job* j)
    {
        const auto permit = co_await self->repository_->slots.acquire();
        try {
            auto begin = [self, j](const stop_flag&) { return self->begin(*j); };
            const auto started = co_await run_on(self->repository_->pool, std::move(begin));
            if (!started)
                co_return;
            co_await unpack_layer(self->repository_->pool, started, self->input_of(*j->layer));
            self->finish(*j, *started);
        } catch (error& failure) {
            failure.layer(j->layer->diff.string());
            throw;
        }
    }

    // Takes small layers until none is left. To go back and forth between a worker and this coroutine for each would take
    // a good part of the time that it needs.
    static asio::awaitable<void> small_layers(pointer self)
    {
        const auto permit = co_await self->repository_->slots.acquire();
        for (bool more = true; more;) {
            auto unpack = [self](const stop_flag& stop) { return self->unpack_small(stop); };
            more = co_await run_on(self->repository_->pool, std::move(unpack));
        }
    }

    // Some of the small layers; whether there may be more.
    bool unpack_small(const stop_flag& stop)
    {
        for (std::size_t count = 0; count < some; ++count) {
            job* const j = next_small();
            if (j == nullptr)
                return false;
            try {
                if (const auto started = begin(*j)) {
                    unpack_layer_here(started, input_of(*j->layer), stop);
                    finish(*j, *started);
                }
            } catch (error& failure) {
                failure.layer(j->layer->diff.string());
                throw;
            }
        }
        return true;
    }

    [[nodiscard]] job* next_small()
    {
        const std::lock_guard guard(mutex_);
        if (small_.empty())
            return nullptr;
        job* const next = small_.front();
        small_.pop_front();
        return next;
    }

    // On a worker or on the strand.
    void finish(job& j, work& unpacked)
    {
        if (kept* blob = blob_of(*j.layer); blob != nullptr)
            blob->compared = true;
        finished_->add(j.layer->diff, std::move(unpacked.writer), std::move(*unpacked.record), take_claim(j));
    }

    [[nodiscard]] kept* blob_of(const found_layer& layer)
    {
        const auto found = layer.blob ? blobs_.find({*layer.blob, layer.diff}) : blobs_.end();
        return found == blobs_.end() ? nullptr : &found->second;
    }

    [[nodiscard]] kept_input<file_input> input_of(const found_layer& layer)
    {
        const kept* blob = blob_of(layer);
        return {file_input(layer.bytes), blob != nullptr ? blob->draft : nullptr};
    }

    // Unless the blob is there already.
    void begin_blob(kept& blob)
    {
        const digest& id = *blob.layer->blob;
        if (!repository_->records->blobs.contains(id, blob.layer->bytes.size()))
            blob.draft = new_shared<blob_draft>(scope_->staging(), "blob-" + random_id(), repository_->sync);
    }

    // Blobs of layers that were not unpacked now are only compared.
    static asio::awaitable<void> keep_blobs(pointer self)
    {
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (auto& [key, blob] : self->blobs_)
            if (!blob.compared)
                group->add(compare_blob(self, &blob));
        co_await task_group::join(std::move(group));
        auto show = [self](const stop_flag&) { self->show_blobs(); };
        co_await run_on(self->repository_->pool, std::move(show));
    }

    static asio::awaitable<void> compare_blob(pointer self, kept* blob)
    {
        const auto permit = co_await self->repository_->slots.acquire();
        try {
            auto begin = [self, blob](const stop_flag&) {
                self->begin_blob(*blob);
                const found_layer& layer = *blob->layer;
                return new_shared<layer_work<null_writer>>(
                    null_writer(), layer_facts{layer.diff, layer.blob, layer.promised}, self->repository_->bounds);
            };
            auto started = co_await run_on(self->repository_->pool, std::move(begin));
            co_await unpack_layer(self->repository_->pool, std::move(started),
                                  kept_input(file_input(blob->layer->bytes), blob->draft));
            blob->compared = true;
        } catch (error& failure) {
            failure.layer(blob->layer->diff.string());
            throw;
        }
    }

    void show_blobs()
    {
        if (repository_->sync == durability::batch)
            scope_->sync_file_system();
        for (auto& [key, blob] : blobs_)
            if (blob.draft)
                blob.draft->publish(*repository_->records, key.first);
            else if (repository_->sync != durability::none)
                repository_->records->blobs.make_last(key.first, scope_->staging());
    }

    // Whether this layer is ours to unpack; remembers for how long another one's claim stands still.
    bool may_begin(job& j)
    {
        constexpr auto patience = std::chrono::seconds(20);
        if (auto got = repository_->records->claims.try_share(j.layer->diff)) {
            const std::lock_guard guard(mutex_);
            j.held = std::move(got);
            return true;
        }
        if (j.alone)
            return true;
        const auto now = std::chrono::steady_clock::now();
        if (const auto seen = repository_->records->claims.last_beat(j.layer->diff); seen != j.claim_seen) {
            j.claim_seen = seen;
            j.claim_since = now;
        }
        j.alone = now - j.claim_since > patience;
        return j.alone;
    }

    // Nothing where the layer is there by now, or another one is at it.
    std::shared_ptr<work> begin(job& j)
    {
        if (!may_begin(j) || repository_->storage.contains(j.layer->diff))
            return nullptr;
        if (kept* blob = blob_of(*j.layer); blob != nullptr && !blob->draft)
            begin_blob(*blob);
        auto out = new_shared<work>(
            repository_->storage.create(write_context(scope_->staging(), j.name, repository_->bounds)),
            layer_facts{j.layer->diff, j.layer->blob, j.layer->promised}, repository_->bounds);
        if (options_.progress())
            out->progress = [this, &j](std::uint64_t read) {
                options_.progress()(layer_progress(j.layer->diff.string(), read, j.layer->bytes.size()));
            };
        return out;
    }

    [[nodiscard]] std::shared_ptr<claim> take_claim(job& j)
    {
        const std::lock_guard guard(mutex_);
        return std::exchange(j.held, nullptr);
    }

    // What is there by now is done, whoever unpacked it.
    static asio::awaitable<void> end_round(pointer self)
    {
        auto look = [self](const stop_flag&) {
            const std::lock_guard guard(self->mutex_);
            std::erase_if(self->round_, [self](const job& j) {
                return self->finished_->published().contains(j.layer->diff) || self->repository_->storage.contains(j.layer->diff);
            });
        };
        co_await run_on(self->repository_->pool, std::move(look));
    }

    std::shared_ptr<state> repository_;
    std::vector<found_image> images_;
    import_options options_;
    std::vector<std::string> names_; // that the options give, in full
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::list<job> todo_, round_;
    std::mutex mutex_; // of `round_` and its claims, and of the next one
    std::deque<job*> small_;
    std::shared_ptr<finished_diffs<Storage>> finished_ = new_shared<finished_diffs<Storage>>(repository_, scope_);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(repository_, scope_);
    std::map<blob_key, kept> blobs_; // to be kept
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
