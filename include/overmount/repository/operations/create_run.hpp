#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CREATE_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CREATE_RUN_HPP

#include <overmount/importer/image_files.hpp>
#include <overmount/io/stream_feed.hpp>
#include <overmount/repository/operations/claim_beat.hpp>
#include <overmount/repository/operations/finished_diffs.hpp>
#include <overmount/repository/operations/publication.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/task_group.hpp>
#include <overmount/unpack/pipeline.hpp>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// One layer that is made from a tar whose digest mostly nobody knows before its end. Shared by the coroutine and by
// the workers that act for it, one at a time.
template <storage_policy Storage>
class create_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<create_run>;

    // `expected`, of a tar whose digest is known.
    create_run(std::shared_ptr<state> owner, std::optional<chain_id> parent,
               std::optional<diff_id> expected = std::nullopt)
        : repository_(std::move(owner)), parent_(std::move(parent)), expected_(std::move(expected))
    {}

    [[nodiscard]] const worker_pool& pool() const noexcept { return repository_->pool; }
    [[nodiscard]] bool is_made() const noexcept { return chain_.has_value(); }
    // Of the layer, when it is shown.
    [[nodiscard]] const chain_id& chain() const { return *chain_; }

    // What is to be shown with the layer: called with its diff when it is made, on a worker. By default the layer alone.
    void when_made(std::function<void(publication<Storage>&, const diff_id&)> tell) { tell_ = std::move(tell); }

    // `open`, called on a worker, gives an input that never lacks bytes.
    template <class Open>
    static asio::awaitable<void> from_input(pointer self, Open open)
    {
        co_await begin(self);
        const auto permit = co_await self->repository_->slots.acquire();
        auto first = [open](const stop_flag&) { return open(); };
        auto input = co_await run_on(self->pool(), std::move(first));
        co_await unpack_layer(self->pool(), self->work_, std::move(input));
        co_await show(self);
    }
    static asio::awaitable<void> from_file(pointer self, std::filesystem::path file)
    {
        auto open = [file] { return file_input(whole_file(file.string())); };
        return from_input(std::move(self), std::move(open));
    }

    // Takes no slot: nobody knows how long the next bytes take. No worker waits for them.
    static asio::awaitable<void> from_stream(pointer self, byte_stream stream)
    {
        co_await begin(self);
        auto feed = new_shared<stream_feed>();
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        group->add(stream_feed::run(feed, std::move(stream)));
        group->add(unpack_layer(self->pool(), self->work_, stream_input(feed)));
        co_await task_group::join(std::move(group));
        co_await show(self);
    }

    // Removes what is left, shown or not. On a worker.
    void clean()
    {
        work_.reset();
        finished_->drop();
        end_.reset();
        scope_->clean();
    }

private:
    static asio::awaitable<void> begin(pointer self)
    {
        auto open = [self](const stop_flag&) { self->open(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(open));
    }

    // Under the lock: the layers below stay.
    void open()
    {
        if (parent_)
            for (const layer_record& layer : repository_->records->layers.chain(*parent_))
                diffs_.insert(diffs_.begin(), layer.diff);
        lease_content lease;
        publication<Storage>::lease_chain(lease, diffs_);
        scope_->open(lease);
        work_ = new_shared<layer_work<typename Storage::writer>>(
            repository_->storage.create(write_context(scope_->staging(), "layer", repository_->bounds)), facts(),
            repository_->bounds);
    }

    [[nodiscard]] layer_facts facts() const
    {
        return expected_ ? layer_facts{expected_, std::nullopt, compression::none} : layer_facts();
    }

    static asio::awaitable<void> show(pointer self)
    {
        auto lease = [self](const stop_flag&) { self->lease(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(lease));
        auto beat = [self] { self->finished_->beat(); };
        co_await claim_beat::during(self->pool(), publish(self), std::move(beat));
        co_await publication<Storage>::run(self->end_, &self->finished_->published());
        self->chain_ = chain_of(self->diffs_).back().first;
    }
    static asio::awaitable<void> publish(pointer self)
    {
        auto draft = [self](const stop_flag&) { self->draft(); };
        co_await run_on(self->pool(), std::move(draft));
        co_await finished_diffs<Storage>::publish(self->finished_);
    }

    // Now the digest is known: under the lock, what is there of it stays.
    void lease()
    {
        if (work_->bytes == 0 && !expected_) // the producer failed: nobody means a layer of no bytes
            throw error(errc::truncated_stream).at(stage::source).detail("there are no bytes");
        const diff_id& diff = *work_->diff;
        diffs_.push_back(diff);
        lease_content more;
        publication<Storage>::lease_chain(more, diffs_);
        scope_->lease().add(more);
        if (!repository_->storage.contains(diff)) // who wants the same diff from now on waits for this one
            finished_->add(diff, std::move(work_->writer), std::move(*work_->record), repository_->records->claims.try_share(diff));
    }

    void draft()
    {
        if (tell_)
            tell_(*end_, diffs_.back());
        else
            end_->add_chain(diffs_);
        end_->write();
        if (repository_->sync == durability::batch) {
            scope_->sync_file_system();
            finished_->synced();
            end_->synced();
        }
    }

    std::shared_ptr<state> repository_;
    std::optional<chain_id> parent_, chain_;
    std::optional<diff_id> expected_;
    std::vector<diff_id> diffs_; // of the chain, lowest first
    std::function<void(publication<Storage>&, const diff_id&)> tell_;
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::shared_ptr<finished_diffs<Storage>> finished_ = new_shared<finished_diffs<Storage>>(repository_, scope_);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(repository_, scope_);
    std::shared_ptr<layer_work<typename Storage::writer>> work_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
