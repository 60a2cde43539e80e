#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CREATE_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CREATE_RUN_HPP

#include <overmount/importer/image_files.hpp>
#include <overmount/io/stream_feed.hpp>
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
    // Of the layer, when it is shown.
    [[nodiscard]] const chain_id& chain() const { return *chain_; }

    // What else there is to do when the layer is made: with its diff, before anything is shown; below the lock, before and
    // behind showing it. Nobody can collect it in between.
    void when_made(std::function<void(const diff_id&)> made, std::function<void()> before, std::function<void()> behind)
    {
        made_ = std::move(made);
        before_ = std::move(before);
        behind_ = std::move(behind);
    }

    // `open`, called on a worker, gives an input that never lacks bytes.
    template <class Open>
    static asio::awaitable<void> from_input(pointer self, Open open)
    {
        const auto permit = co_await self->repository_->slots.acquire();
        auto begin = [self, open](const stop_flag&) {
            self->begin();
            return open();
        };
        auto input = co_await run_on(self->pool(), std::move(begin));
        co_await unpack_layer(self->pool(), self->work_, std::move(input));
        auto show = [self](const stop_flag&) { self->show(); };
        co_await run_on(self->pool(), std::move(show));
    }
    static asio::awaitable<void> from_file(pointer self, std::filesystem::path file)
    {
        auto open = [file] { return file_input(whole_file(file.string())); };
        return from_input(std::move(self), std::move(open));
    }

    // Takes no slot: nobody knows how long the next bytes take. No worker waits for them.
    static asio::awaitable<void> from_stream(pointer self, byte_stream stream)
    {
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_on(self->pool(), std::move(begin));
        auto feed = new_shared<stream_feed>();
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        group->add(stream_feed::run(feed, std::move(stream)));
        group->add(unpack_layer(self->pool(), self->work_, stream_input(feed)));
        co_await task_group::join(std::move(group));
        auto show = [self](const stop_flag&) { self->show(); };
        co_await run_on(self->pool(), std::move(show));
    }

    // Removes what is left, shown or not. On a worker.
    void clean()
    {
        work_.reset();
        if (!staging_)
            return;
        repository_->records->remove_staging(*staging_);
        repository_->records->end_lease(lease_name_);
        staging_.reset();
    }

private:
    void begin()
    {
        store& records = *repository_->records;
        const file_lock guard = records.lock_shared();
        std::vector<diff_id> below;
        if (parent_)
            for (layer_record& layer : records.chain(*parent_))
                below.push_back(std::move(layer.diff));
        lease_ = records.lease(below, lease_name_);
        staging_.emplace(records.make_staging());
        work_ = new_shared<layer_work<typename Storage::writer>>(
            repository_->storage.create(write_context(staging_->fd.get(), "layer", repository_->bounds)),
            facts(), repository_->bounds);
    }

    [[nodiscard]] layer_facts facts() const
    {
        return expected_ ? layer_facts{expected_, std::nullopt, compression::none} : layer_facts();
    }

    // Children before parents: the diff, then the layer.
    void show()
    {
        if (work_->bytes == 0 && !expected_) // the producer failed: nobody means a layer of no bytes
            throw error(errc::truncated_stream).at(stage::source).detail("there are no bytes");
        const diff_id& diff = *work_->diff;
        if (made_)
            made_(diff);
        store& records = *repository_->records;
        // Who wants the same diff from now on waits for this one.
        const auto claim = records.try_claim(diff);
        if (repository_->sync == durability::batch)
            check(::syncfs(records.base_fd()), "syncfs");
        const file_lock guard = records.lock_shared();
        if (parent_)
            static_cast<void>(records.chain(*parent_));
        if (before_)
            before_();
        repository_->publish(work_->writer, diff);
        repository_->sync_published();
        const chain_id chain = parent_ ? chain_id::of(*parent_, diff) : chain_id::of(diff);
        records.put_layer(chain, {diff, parent_}, repository_->sync);
        repository_->ensure_correction(chain);
        if (behind_)
            behind_();
        chain_ = chain;
    }

    std::shared_ptr<state> repository_;
    std::optional<chain_id> parent_, chain_;
    std::optional<diff_id> expected_;
    std::function<void(const diff_id&)> made_;
    std::function<void()> before_, behind_;
    std::optional<store::staging_directory> staging_;
    std::optional<file_lock> lease_;
    std::string lease_name_;
    std::shared_ptr<layer_work<typename Storage::writer>> work_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
