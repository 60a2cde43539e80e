#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_RUN_HPP

#include <overmount/collect.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/collection_reader.hpp>
#include <overmount/repository/operations/work_scope.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/task_group.hpp>
#include <overmount/storage/tree_size.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Calls `work(stop)` on workers, on as many as there are, each of which gives its turn back between two calls; until it gives
// false.
OVERMOUNT_LAZY [[nodiscard]] inline asio::awaitable<void> run_in_turns(worker_pool pool, std::function<bool(const stop_flag&)> work)
{
    for (bool more = true; more;) {
        auto once = work;
        more = co_await run_on(pool, std::move(once));
    }
}
OVERMOUNT_LAZY [[nodiscard]] inline asio::awaitable<void> run_on_all(worker_pool pool, std::function<bool(const stop_flag&)> work)
{
    auto group = new_shared<task_group>(co_await asio::this_coro::executor);
    for (unsigned i = 0; i < pool.workers(); ++i)
        group->add(run_in_turns(pool, work));
    co_await task_group::join(std::move(group));
}

// A collection at work, or the removal of one layer. Shared by its coroutine and by the workers that act for it.
//
// What goes is renamed into its own directory below tmp/, so that others do not remove it in their sweeps. When it dies, that is
// one more directory of a dead owner.
template <storage_policy Storage>
class collect_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<collect_run>;

    collect_run(std::shared_ptr<state> owner, const collect_options& options)
        : repository_(std::move(owner)), options_(options), reader_(repository_->records, repository_->bounds)
    {
    }

    [[nodiscard]] const collect_report& report() const noexcept { return report_; }

    static asio::awaitable<void> collect(pointer self)
    {
        if (self->options_.dry_run()) {
            auto plan = [self](const stop_flag& stop) { self->plan(stop); };
            co_await run_on(self->repository_->pool, std::move(plan));
            auto measure = [self](const stop_flag& stop) { return self->measure_some(stop); };
            co_await run_on_all(self->repository_->pool, std::move(measure));
            self->report_.bytes = self->bytes_;
            co_return;
        }
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_locked(self->repository_, lock_kind::exclusive, std::move(begin));
        auto mark = [self](const stop_flag& stop) { self->mark(stop); };
        co_await run_on(self->repository_->pool, std::move(mark));
        co_await take_all(self);
        co_await remove_all(self);
    }

    // Of one layer, which nothing may need.
    static asio::awaitable<void> remove_layer(pointer self, chain_id chain)
    {
        auto mark = [self, chain](const stop_flag& stop) { self->mark_for(chain, stop); };
        co_await run_on(self->repository_->pool, std::move(mark));
        auto take = [self, chain](const stop_flag& stop) { self->take_layer(chain, stop); };
        co_await run_locked(self->repository_, lock_kind::exclusive, std::move(take));
        auto sync = [self](const stop_flag&) { self->sync_taken(); };
        co_await run_on(self->repository_->pool, std::move(sync));
    }

    // On a worker. What was taken and is there still goes with the directory.
    void clean()
    {
        try {
            scope_->clean();
        } catch (const error&) {
            if (report_.left.empty())
                throw; // else it was told
        }
    }

private:
    static constexpr std::size_t renames_a_turn = 256, some = 16;

    struct trash
    {
        int directory;
        std::string name, was;
    };

    // Wave by wave: when one is over, its removal is made to last before the next one begins.
    static asio::awaitable<void> take_all(pointer self)
    {
        while (self->wave_ < self->waves_.size()) {
            auto turn = [self](const stop_flag& stop) { self->turn(stop); };
            co_await run_locked(self->repository_, lock_kind::exclusive, std::move(turn));
            auto sync = [self](const stop_flag&) { self->sync_taken(); };
            if (self->wave_is_over_)
                co_await run_on(self->repository_->pool, std::move(sync));
            if (self->others_wait_) // they come again after at most so long
                co_await pause(patience::longest_pause);
        }
    }

    static asio::awaitable<void> remove_all(pointer self)
    {
        auto remove = [self](const stop_flag& stop) { return self->remove_some(stop); };
        co_await run_on_all(self->repository_->pool, std::move(remove));
        self->report_.bytes = self->bytes_;
    }

    // Under the exclusive lock.
    void begin()
    {
        const store& records = *repository_->records;
        report_.leases = records.set_dead_aside();
        for (const std::string& name : records.staging.trash())
            trash_.push_back({records.staging.fd(), name, "tmp/" + name});
        report_.leftovers = trash_.size();
        scope_->open({});
    }

    // No lock is held.
    void mark(const stop_flag& stop)
    {
        reader_.read(stop);
        // Of storages that name what they keep in a way of their own.
        for (const auto& [chain, layer] : reader_.layers())
            if (!reader_.marks().is_there({kept_kind::diff, layer.diff.value()}) && repository_->storage.contains(layer.diff))
                reader_.marks().add_diff(layer.diff);
        keep_young();
        for (const kept_thing& one : reader_.marks().doubtful())
            report_.left.push_back({path_of(one), one.kind == kept_kind::layer
                                                      ? "it is damaged, and may need any layer: remove it first"
                                                      : "it is damaged, and may need any manifest or blob"});
        waves_ = reader_.marks().waves();
    }

    void keep_young()
    {
        if (options_.least_age().count() <= 0)
            return;
        for (const auto& wave : reader_.marks().waves())
            for (const kept_thing& one : wave)
                if (is_young(one))
                    reader_.marks().need(one);
    }

    [[nodiscard]] bool is_young(const kept_thing& one) const
    {
        struct stat status;
        return options_.least_age().count() > 0 &&
               ::fstatat(repository_->records->base_fd(), path_of(one).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
               status.st_ctim.tv_sec > std::time(nullptr) - options_.least_age().count();
    }

    // Under the exclusive lock.
    void turn(const stop_flag& stop)
    {
        reader_.read_again(stop);
        std::size_t left = renames_a_turn;
        do {
            const auto& wave = waves_[wave_];
            for (; next_ < wave.size() && left != 0; --left)
                try_take(wave[next_++]);
            wave_is_over_ = next_ == wave.size();
            if (wave_is_over_) {
                ++wave_;
                next_ = 0;
            }
        } while (repository_->sync == durability::none && wave_ < waves_.size() && left != 0);
        others_wait_ = repository_->records->lock(lock_kind::shared).is_awaited();
    }

    void try_take(const kept_thing& one)
    {
        if (!reader_.marks().is_unneeded(one))
            return;
        try {
            if (is_young(one)) // it went, and came again
                reader_.marks().need(one);
            else if (take(one))
                ++count_of(one.kind);
        } catch (const error& failure) {
            report_.left.push_back({path_of(one), failure.what()});
            reader_.marks().need(one);
        }
    }

    // False where another was faster.
    bool take(const kept_thing& one)
    {
        const std::string path = path_of(one), name = "taken-" + std::to_string(trash_.size());
        if (one.kind == kept_kind::diff) {
            if constexpr (detaching_storage<Storage>) {
                if (!repository_->storage.set_aside(diff_id(one.id), scope_->staging(), name))
                    return false;
            } else {
                repository_->storage.erase(diff_id(one.id));
                return true;
            }
        } else if (::renameat(repository_->records->base_fd(), path.c_str(), scope_->staging(), name.c_str()) != 0) {
            if (errno == ENOENT)
                return false;
            throw_errno("rename", path);
        }
        touched_.insert(path.substr(0, path.rfind('/')));
        trash_.push_back({scope_->staging(), name, path});
        return true;
    }

    std::uint64_t& count_of(kept_kind kind)
    {
        switch (kind) {
        case kept_kind::layer: return report_.layers;
        case kept_kind::diff: return report_.diffs;
        case kept_kind::old_tree: return report_.old_trees;
        case kept_kind::manifest: return report_.manifests;
        case kept_kind::blob: break;
        }
        return report_.blobs;
    }

    void sync_taken()
    {
        const auto touched = std::exchange(touched_, {});
        if (repository_->sync == durability::none)
            return;
        for (const std::string& path : touched)
            sync_directory(open_directory(repository_->records->base_fd(), path).get());
    }

    // Calls `work(index)` for some of `count` things, which other workers share; whether there may be more.
    template <class Work>
    bool share(std::size_t count, const stop_flag& stop, const Work& work)
    {
        for (std::size_t i = 0; i < some; ++i) {
            stop.throw_if_stopped();
            const std::size_t next = shared_next_.fetch_add(1);
            if (next >= count)
                return false;
            work(next);
        }
        return true;
    }

    bool remove_some(const stop_flag& stop)
    {
        return share(trash_.size(), stop, [this](std::size_t i) {
            const trash& one = trash_[i];
            std::uint64_t freed = 0;
            try {
                remove_tree(one.directory, one.name, one.directory, {}, &freed);
            } catch (const error& failure) {
                const std::lock_guard guard(mutex_);
                report_.left.push_back({one.was, failure.what()});
            }
            bytes_ += freed;
        });
    }

    // What would go, in a dry run.
    void plan(const stop_flag& stop)
    {
        mark(stop);
        for (const auto& wave : waves_)
            for (const kept_thing& one : wave) {
                ++count_of(one.kind);
                trash_.push_back({repository_->records->base_fd(), path_of(one), ""});
            }
        const store& records = *repository_->records;
        for (const std::string& name : records.staging.trash())
            trash_.push_back({records.staging.fd(), name, ""});
        for (const std::string& name : records.staging.dead())
            trash_.push_back({records.staging.fd(), name, ""});
        report_.leftovers = trash_.size() - report_.layers - report_.diffs - report_.old_trees - report_.manifests - report_.blobs;
        report_.leases = records.leases.over();
    }

    bool measure_some(const stop_flag& stop)
    {
        return share(trash_.size(), stop, [this, &stop](std::size_t i) {
            bytes_ += tree_size(trash_[i].directory, trash_[i].name, [&stop] { stop.throw_if_stopped(); });
        });
    }

    void mark_for(const chain_id& chain, const stop_flag& stop)
    {
        if (!exists(repository_->records->base_fd(), layer_path(chain)))
            throw error(errc::layer_not_found).at(stage::repository).layer(chain.string());
        reader_.read(stop);
        reader_.marks().need_parents();
    }

    // Under the exclusive lock.
    void take_layer(const chain_id& chain, const stop_flag& stop)
    {
        const kept_thing one{kept_kind::layer, chain.value()};
        reader_.read_again(stop);
        const auto doubtful = reader_.marks().doubtful();
        const auto other = std::find_if(doubtful.begin(), doubtful.end(), [&one](const kept_thing& damaged) {
            return damaged.kind == kept_kind::layer && damaged != one;
        });
        const bool needed = reader_.marks().is_needed(one);
        if (needed || other != doubtful.end())
            throw error(errc::layer_in_use)
                .at(stage::repository)
                .layer(chain.string())
                .detail(needed ? needed_by(chain) : path_of(*other) + " is damaged and may need it: remove that first");
        const store& records = *repository_->records;
        if (!remove_record(records.staging.fd(), records.base_fd(), path_of(one), durability::none))
            throw error(errc::layer_not_found).at(stage::repository).layer(chain.string());
        touched_.insert(path_of(one).substr(0, path_of(one).rfind('/')));
    }

    [[nodiscard]] std::string needed_by(const chain_id& chain) const
    {
        for (const auto& [id, diffs] : reader_.images()) {
            std::optional<chain_id> at;
            for (const diff_id& diff : diffs)
                if (at = at ? chain_id::of(*at, diff) : chain_id::of(diff); at == chain)
                    return "the image " + id.string() + " needs it";
        }
        for (const auto& [above, layer] : reader_.layers())
            if (layer.parent == chain)
                return "the layer " + above.string() + " is stacked upon it";
        for (const mount_record& record : mount_table(repository_->records).list())
            if (record.layer == chain)
                return "it is mounted at " + record.target;
        return "a lease keeps it";
    }

    std::shared_ptr<state> repository_;
    collect_options options_;
    collection_reader reader_;
    collect_report report_;
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::vector<std::vector<kept_thing>> waves_;
    std::size_t wave_ = 0, next_ = 0; // in it
    bool wave_is_over_ = false, others_wait_ = false;
    std::set<std::string> touched_; // directories that something was taken from
    std::vector<trash> trash_;
    std::atomic<std::size_t> shared_next_ = 0;
    std::atomic<std::uint64_t> bytes_ = 0;
    std::mutex mutex_; // of what is left, while workers remove
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
