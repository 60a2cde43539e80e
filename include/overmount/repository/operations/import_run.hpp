#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_IMPORT_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_IMPORT_RUN_HPP

#include <overmount/posix/descriptor_budget.hpp>
#include <overmount/repository/operations/carried_layers.hpp>
#include <overmount/repository/operations/kept_blobs.hpp>
#include <overmount/repository/operations/layer_engine.hpp>
#include <overmount/runtime/run_on.hpp>

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Imports images: gets the layers that the repository lacks, wherever they come from, and publishes all. Shared by the import's
// coroutines and its worker threads.
//
// The import works in rounds. A round claims layers that no other importer has claimed, unpacks them, and publishes them. Only then
// are the layers that others have claimed tried again, so that two imports never wait for each other. A claim takes a descriptor
// until its layer is published: a round has as many layers as the process has descriptors to spare.
template <storage_policy Storage>
class import_run
{
public:
    using engine = layer_engine<Storage>;
    using carried = carried_layers<Storage>;
    using pointer = std::shared_ptr<import_run>;

    // \param by the candidate layers of a one-pass archive, which are already unpacked; else null
    import_run(std::shared_ptr<engine> with, std::vector<found_image> found, import_options options,
               std::shared_ptr<carried> by = nullptr)
        : engine_(std::move(with)), images_(std::move(found)), options_(std::move(options)), streams_(options_.streams()),
          carried_(std::move(by))
    {}

    [[nodiscard]] const std::vector<found_image>& images() const noexcept { return images_; }

    static asio::awaitable<void> run(pointer self)
    {
        self->names_ = full_names(self->options_.tags()); // reject invalid names before anything is read
        self->plan();
        auto lease = [self](const stop_flag&) { self->lease(); };
        co_await run_locked(self->engine_->owner(), lock_kind::shared, std::move(lease));
        auto draft = [self](const stop_flag&) { self->draft(); };
        co_await run_on(self->engine_->pool(), std::move(draft));
        while (!self->todo_.empty()) {
            const std::size_t before = self->todo_.size();
            const std::function<void()> beat = [self] { self->beat(); }, publish_early = [self] { self->publish_early(); }, nothing;
            co_await claim_beat::during(self->engine_->pool(), one_round(self), beat, publish_early);
            co_await claim_beat::during(self->engine_->pool(), engine::publish_layers(self->engine_), beat, nothing);
            self->round_.clear();
            if (self->todo_.size() == before) // other importers have claimed all of them
                co_await pause(std::chrono::milliseconds(50));
        }
        if (self->options_.keeps_blobs()) {
            co_await kept_blobs<Storage>::compare(self->engine_, &self->blobs_);
            auto publish = [self](const stop_flag&) { self->blobs_.publish(*self->engine_); };
            co_await run_on(self->engine_->pool(), std::move(publish));
        }
        co_await engine::publish_images(self->engine_);
    }

    // Removes all remaining staging files, whether or not the import succeeded. Runs on a worker thread.
    void clean()
    {
        round_.clear();
        todo_.clear();
        blobs_.clear();
        carried_.reset();
        engine_->clean();
    }

private:
    // In bytes. One worker thread unpacks all of a layer whose blob is no larger: handing parts of it to other workers costs more than
    // it gains.
    static constexpr std::uint64_t small_blob = 64 << 10;

    // How many small layers a worker thread unpacks before it lets other work run.
    static constexpr std::size_t batch = 16;

    struct job
    {
        job(const found_layer& found, std::string named) : layer(&found), name(std::move(named)) {}
        [[nodiscard]] bool is_small() const noexcept { return layer->bytes.file() != nullptr && *layer->bytes.size() <= small_blob; }
        const found_layer* layer; // points into `images_`
        std::string name;
        std::int64_t claim_seen = 0; // the last heartbeat of another importer's claim, and when it was first seen
        std::chrono::steady_clock::time_point claim_since{};
        std::shared_ptr<claim> held; // our claim
    };
    using work = typename engine::work;

    void plan()
    {
        std::set<diff_id> known;
        for (const found_image& image : images_)
            for (const found_layer& layer : image.layers)
                if (known.insert(layer.diff).second)
                    todo_.emplace_back(layer, "layer-" + std::to_string(todo_.size()));
        for (const found_image& image : images_)
            if (keeps_blobs_of(image))
                for (const found_layer& layer : image.layers)
                    blobs_.add(layer, carried_ ? carried_->find_blob(layer) : nullptr);
    }

    [[nodiscard]] bool keeps_blobs_of(const found_image& image) const { return options_.keeps_blobs() && has_blobs(image); }

    // Under the lock, so that no existing diff is removed before it is leased.
    void lease()
    {
        lease_content content;
        for (const found_image& image : images_) {
            publication<Storage>::lease_image(content, image);
            if (keeps_blobs_of(image))
                lease_blobs(content, image);
        }
        engine_->lease(content);
        std::erase_if(todo_, [this](const job& j) { return engine_->repository().storage.contains(j.layer->diff); });
    }

    void draft()
    {
        if (carried_) // report missing layers before anything is published
            for (const job& j : todo_)
                static_cast<void>(carried_->find(*j.layer));
        // Largest first, so that the import does not end with a large one alone. A layer of unknown size counts as the largest.
        const auto size = [](const job& j) { return j.layer->bytes.size().value_or(~std::uint64_t{0}); };
        todo_.sort([size](const job& a, const job& b) { return size(a) > size(b); });
        for (const found_image& image : images_) {
            std::vector<std::string> names = image.tags;
            names.insert(names.end(), names_.begin(), names_.end());
            engine_->end().add_image(image, names, keeps_blobs_of(image));
        }
        engine_->end().write();
    }

    // Beats all held claims. See `claim_beat`.
    void beat()
    {
        std::vector<std::shared_ptr<claim>> held;
        engine_->finished().list_claims(held);
        {
            const std::lock_guard guard(mutex_);
            for (const job& j : round_)
                if (j.held)
                    held.push_back(j.held);
        }
        for (const auto& one : held)
            one->beat();
    }

    // Publishes the finished diffs every few seconds. Called with each heartbeat, on a worker thread.
    void publish_early()
    {
        constexpr auto few = std::chrono::seconds(3);
        const auto now = std::chrono::steady_clock::now();
        if (now - published_ < few)
            return;
        published_ = now;
        engine_->finished().publish_early();
    }

    static asio::awaitable<void> one_round(pointer self)
    {
        auto claim_some = [self](const stop_flag& stop) { self->claim_some(stop); };
        co_await run_on(self->engine_->pool(), std::move(claim_some));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (job& j : self->round_)
            if (!j.is_small() && !self->carried_)
                group->add(one_layer(self, &j));
        const std::size_t lanes = std::min<std::size_t>(self->small_.size(), self->engine_->pool().workers());
        for (std::size_t lane = 0; lane < lanes; ++lane)
            group->add(small_layers(self));
        co_await task_group::join(std::move(group));
    }

    // Moves the layers that this import may unpack to the round. Drops those that exist by now: another importer releases its claim
    // when the layer is published.
    void claim_some(const stop_flag& stop)
    {
        constexpr std::size_t min_layers = 8;
        std::size_t left = std::max(free_descriptors() / 4, min_layers);
        for (auto next = todo_.begin(); next != todo_.end() && left != 0;) {
            stop.throw_if_stopped();
            const auto one = next++;
            if (!may_begin(*one) && !carried_) // a candidate layer is unpacked already: wait for no claim
                continue;
            {
                const std::lock_guard guard(mutex_);
                round_.splice(round_.end(), todo_, one);
            }
            --left;
            if (engine_->repository().storage.contains(one->layer->diff)) { // published since `lease`
                const std::lock_guard guard(mutex_);
                round_.erase(one);
            } else if (carried_) {
                auto& found = carried_->find(*one->layer);
                engine_->finished().add(one->layer->diff, std::move(found.writer), std::move(found.record), take_claim(*one));
            } else if (one->is_small()) {
                small_.push_back(&*one);
            }
        }
    }

    // Whether this import may unpack the layer: it got the claim, or the claim's holder has shown no progress for too long.
    bool may_begin(job& j)
    {
        constexpr auto patience = std::chrono::seconds(20);
        const auto& claims = engine_->repository().records->claims;
        j.held = claims.try_share(j.layer->diff);
        if (j.held)
            return true;
        const auto now = std::chrono::steady_clock::now();
        if (const auto seen = claims.last_beat(j.layer->diff); seen != j.claim_seen) {
            j.claim_seen = seen;
            j.claim_since = now;
        }
        return now - j.claim_since > patience;
    }

    static asio::awaitable<void> one_layer(pointer self, job* j)
    {
        const layer_source& from = j->layer->bytes;
        const bool is_file = from.file() != nullptr;
        std::optional<semaphore::permit> turn;
        try {
            if (!is_file) { // so that a large import leaves permits to others
                auto mine = co_await self->streams_.acquire();
                turn.emplace(std::move(mine));
            }
            const auto permit = co_await self->engine_->permits(is_file).acquire();
            auto begin = [self, j](const stop_flag&) { return self->begin(*j); };
            const auto begun = co_await run_on(self->engine_->pool(), std::move(begin));
            co_await engine::unpack(self->engine_->pool(), begun, from, self->blobs_.draft_of(*j->layer));
            self->finish(*j, *begun);
        } catch (error& failure) {
            failure.layer(j->layer->diff.string());
            throw;
        }
    }

    // Unpacks small layers until none is left, in batches: switching between a worker thread and this coroutine for each layer would
    // cost a good part of the time that the layer needs.
    static asio::awaitable<void> small_layers(pointer self)
    {
        const auto permit = co_await self->engine_->repository().slots.acquire();
        for (bool more = true; more;) {
            auto unpack = [self](const stop_flag& stop) { return self->unpack_small(stop); };
            more = co_await run_on(self->engine_->pool(), std::move(unpack));
        }
    }

    // Unpacks a batch of small layers; returns whether there may be more.
    bool unpack_small(const stop_flag& stop)
    {
        for (std::size_t count = 0; count < batch; ++count) {
            job* const j = next_small();
            if (j == nullptr)
                return false;
            try {
                const auto begun = begin(*j);
                auto input = tee_to(std::make_unique<file_input>(*j->layer->bytes.file()), blobs_.draft_of(*j->layer));
                unpack_layer_here(begun, std::move(input), stop);
                finish(*j, *begun);
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

    [[nodiscard]] std::shared_ptr<work> begin(job& j)
    {
        blobs_.begin(*engine_, *j.layer);
        auto out = engine_->begin({j.layer->diff, j.layer->blob, j.layer->promised}, j.name);
        if (options_.progress())
            out->progress = [observer = options_.progress(), name = j.layer->diff.string(), size = j.layer->bytes.size()](
                                std::uint64_t read, std::uint64_t piece, std::uint64_t unpacked) {
                observer(layer_progress(name, read, piece, unpacked, size));
            };
        return out;
    }

    // Adds the unpacked layer to the finished ones. Runs on a worker thread or on the strand.
    void finish(job& j, work& unpacked)
    {
        blobs_.compared(*j.layer);
        engine_->finished().add(j.layer->diff, std::move(unpacked.writer), std::move(*unpacked.record), take_claim(j));
    }

    [[nodiscard]] std::shared_ptr<claim> take_claim(job& j)
    {
        const std::lock_guard guard(mutex_);
        return std::exchange(j.held, nullptr);
    }

    std::shared_ptr<engine> engine_;
    std::vector<found_image> images_;
    import_options options_;
    semaphore streams_;
    std::shared_ptr<carried> carried_;
    std::vector<std::string> names_; // the names of the options, in full
    std::list<job> todo_;
    std::chrono::steady_clock::time_point published_ = std::chrono::steady_clock::now();
    std::mutex mutex_; // protects the next two, and the claims of the round
    std::list<job> round_;
    std::deque<job*> small_;
    kept_blobs<Storage> blobs_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
