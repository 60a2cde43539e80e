#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_FINISHED_DIFFS_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_FINISHED_DIFFS_HPP

#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/work_scope.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/task_group.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Diffs that an import has unpacked and not published yet.
template <storage_policy Storage>
class finished_diffs
{
public:
    using pointer = std::shared_ptr<finished_diffs>;

    finished_diffs(std::shared_ptr<repository_state<Storage>> owner, std::shared_ptr<work_scope> scope)
        : repository_(std::move(owner)), scope_(std::move(scope))
    {}

    // Adds a diff, with its claim. From any thread.
    void add(const diff_id& id, typename Storage::writer writer, diff_record record, std::shared_ptr<claim> held)
    {
        const std::lock_guard guard(mutex_);
        waiting_.push_back({id, std::move(writer), std::move(record), std::move(held)});
    }
    void drop() { waiting_.clear(); }
    [[nodiscard]] bool any() const noexcept { return !waiting_.empty() || !early_.empty(); }

    // Beats the claims of all diffs, for importers that wait for one of them. From any thread; see `claim_beat`.
    void beat() const
    {
        std::vector<std::shared_ptr<claim>> held;
        list_claims(held);
        for (const auto& one : held)
            one->beat();
    }
    // Adds the claims that are still held. From any thread.
    void list_claims(std::vector<std::shared_ptr<claim>>& into) const
    {
        const std::lock_guard guard(mutex_);
        for (const finished& one : waiting_)
            if (one.held)
                into.push_back(one.held);
    }

    // The records of the published diffs.
    [[nodiscard]] const known_records& published() const noexcept { return published_; }

    // Publishes the diffs that are finished by now and releases their claims, so that other importers can use them while more diffs
    // are still being unpacked. They are recorded as not durable, which needs no sync; `publish` makes them durable. Runs on a worker
    // thread; may run at the same time as `add`, but not as `publish`.
    void publish_early()
    {
        if constexpr (early_storage<Storage>) {
            std::vector<finished> ready;
            {
                const std::lock_guard guard(mutex_);
                ready.swap(waiting_);
            }
            for (finished& one : ready)
                publish_early(std::move(one));
        }
    }

    // Publishes all diffs after one sync, and releases their claims. Many diffs are shared between several worker threads. No diff may
    // be added meanwhile.
    static asio::awaitable<void> publish(pointer self)
    {
        const worker_pool& pool = self->repository_->pool;
        const std::size_t lanes = std::min<std::size_t>(self->waiting_.size() / batch, pool.workers());
        if (lanes > 1) {
            auto sync = [self](const stop_flag&) { self->sync(); };
            co_await run_on(pool, std::move(sync));
            auto group = new_shared<task_group>(co_await asio::this_coro::executor);
            for (std::size_t lane = 0; lane < lanes; ++lane)
                group->add(publish_batches(self));
            co_await task_group::join(std::move(group));
        } else {
            auto all = [self](const stop_flag&) {
                self->sync();
                while (self->publish_batch()) {
                }
            };
            co_await run_on(pool, std::move(all));
        }
        if (!self->later_.empty()) {
            auto replace = [self](const stop_flag&) { return self->replace_later(); };
            co_await try_until(pool, std::move(replace), self->repository_->lock_limit, "replace.lock");
            co_await forget_corrections_again(self);
        }
        const std::lock_guard guard(self->mutex_);
        self->waiting_.clear();
        self->next_ = 0;
    }

private:
    // How many diffs a worker thread publishes before it lets other work run.
    static constexpr std::size_t batch = 16;

    struct finished
    {
        diff_id id;
        typename Storage::writer writer;
        diff_record record;
        std::shared_ptr<claim> held;
    };

    struct early
    {
        diff_id id;
        std::uint64_t identity;
        bool weaker; // recorded as not durable
    };

    void publish_early(finished one)
    {
        const bool weaker = repository_->sync == durability::batch;
        const diff_record durable = one.record;
        if (weaker) {
            one.record.sync = durability::none;
            one.writer.rewrite(one.record);
        }
        const auto end = repository_->publish(one.writer, one.id);
        if (end == repository_state<Storage>::published::later) { // it replaces a damaged diff: left to `publish`
            if (weaker)
                one.writer.rewrite(durable);
            one.record = durable;
            const std::lock_guard guard(mutex_);
            waiting_.push_back(std::move(one));
        } else if (end == repository_state<Storage>::published::ours) {
            early_.push_back({one.id, repository_->storage.identity(one.id), weaker});
            published_.emplace(one.id, durable);
        }
    }

    // Syncs the content of the finished diffs, and marks those that were published early as durable. Their names are synced later.
    void sync()
    {
        if (any() && repository_->sync == durability::batch)
            scope_->sync_file_system();
        if constexpr (early_storage<Storage>)
            for (const early& one : std::exchange(early_, {}))
                if (one.weaker && !repository_->storage.mark_durable(one.id, one.identity, scope_->staging()))
                    published_.erase(one.id); // replaced by another importer's diff, which `publication` must make durable
    }

    static asio::awaitable<void> publish_batches(pointer self)
    {
        for (bool more = true; more;) {
            auto publish = [self](const stop_flag&) { return self->publish_batch(); };
            more = co_await run_on(self->repository_->pool, std::move(publish));
        }
    }

    // Returns whether there may be more.
    bool publish_batch()
    {
        for (std::size_t count = 0; count < batch; ++count) {
            const std::size_t next = next_.fetch_add(1);
            if (next >= waiting_.size())
                return false;
            finish_one(waiting_[next], repository_->publish(waiting_[next].writer, waiting_[next].id));
        }
        return true;
    }

    // Records the result for one diff. Replacements of damaged diffs are collected, and done when all of them are known.
    void finish_one(finished& one, typename repository_state<Storage>::published end)
    {
        const std::lock_guard guard(mutex_);
        if (end == repository_state<Storage>::published::later) {
            later_.push_back(&one);
            return;
        }
        one.held.reset(); // importers that wait for the claim find the diff
        // Another importer's diff may have another durability, so it is not in `published_`.
        if (end == repository_state<Storage>::published::ours)
            published_.emplace(one.id, std::move(one.record));
    }
    // Returns whether no replacement is left. First forgets the corrections that were made of the damaged diffs, in one walk for all.
    bool replace_later()
    {
        if (replaced_.empty()) {
            for (const finished* one : later_)
                replaced_.insert(one->id);
            repository_->forget_corrections(replaced_);
        }
        for (finished* one : std::exchange(later_, {}))
            finish_one(*one, repository_->replace(one->writer, one->id, scope_->staging()));
        return later_.empty();
    }
    // A mount that accepts damaged diffs may have read an old diff and made a correction of it since. It does so under the lock of the
    // roots: once we have had that lock, no such mount is in progress.
    static asio::awaitable<void> forget_corrections_again(pointer self)
    {
        if constexpr (mountable_storage<Storage>) {
            auto wait = [](const stop_flag&) {};
            co_await run_locked(self->repository_, lock_kind::roots, std::move(wait));
            auto forget = [self](const stop_flag&) { self->repository_->forget_corrections(self->replaced_); };
            co_await run_on(self->repository_->pool, std::move(forget));
        }
        self->replaced_.clear();
        co_return;
    }

    std::shared_ptr<repository_state<Storage>> repository_;
    std::shared_ptr<work_scope> scope_;
    mutable std::mutex mutex_; // protects the next three
    std::vector<finished> waiting_; // unprotected while it is published
    std::vector<early> early_;
    std::vector<finished*> later_; // to be replaced
    known_records published_;
    std::set<diff_id> replaced_; // replaced or about to be: their corrections must be forgotten
    std::atomic<std::size_t> next_ = 0; // the next diff to publish
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
