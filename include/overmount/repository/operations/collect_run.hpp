#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COLLECT_RUN_HPP

#include <overmount/collect.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/collection_reader.hpp>
#include <overmount/repository/operations/run_for_each.hpp>
#include <overmount/repository/operations/work_scope.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/pause.hpp>
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

namespace overmount::OVERMOUNT_ABI::detail {

// Collects a repository. Shared by the operation's coroutine and its worker threads.
//
// Unneeded objects are renamed into the collection's own staging directory, which the sweeps of others leave alone. If the process
// dies, a later sweep removes that directory like any other of a dead owner.
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
            auto measure = [self](std::size_t i, const stop_flag& stop) { self->measure(i, stop); };
            co_await run_for_each(self->repository_->pool, self->trash_.size(), batch, std::move(measure));
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

    // Runs on a worker thread. Objects that were taken and not removed yet are removed with the directory.
    void clean()
    {
        try {
            scope_->clean();
        } catch (const error&) {
            if (report_.left.empty())
                throw; // otherwise `left` already reports it
        }
    }

private:
    static constexpr std::size_t renames_per_lock = 256, batch = 16;

    struct trash
    {
        int directory;
        std::string name, original_path;
    };

    // Takes the objects wave by wave. The removal of a wave is made durable before the next wave begins.
    static asio::awaitable<void> take_all(pointer self)
    {
        while (self->wave_ < self->waves_.size()) {
            auto take_some = [self](const stop_flag& stop) { self->take_some(stop); };
            co_await run_locked(self->repository_, lock_kind::exclusive, std::move(take_some));
            auto sync = [self](const stop_flag&) { self->sync_taken(); };
            if (self->wave_is_over_)
                co_await run_on(self->repository_->pool, std::move(sync));
            if (self->others_wait_) // give each of them time for its next attempt
                co_await pause(patience::longest_pause);
        }
    }

    static asio::awaitable<void> remove_all(pointer self)
    {
        auto remove = [self](std::size_t i, const stop_flag&) { self->remove(i); };
        co_await run_for_each(self->repository_->pool, self->trash_.size(), batch, std::move(remove));
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

    // Without the lock.
    void mark(const stop_flag& stop)
    {
        reader_.read(stop);
        // Storage policies with their own layout: their diffs were not listed.
        for (const auto& [chain, layer] : reader_.layers())
            if (!reader_.marks().is_there({kept_kind::diff, layer.diff.value()}) && repository_->storage.contains(layer.diff))
                reader_.marks().add_diff(layer.diff);
        keep_young();
        for (const kept_thing& one : reader_.marks().doubtful())
            report_.left.push_back({path_of(one), one.kind == kept_kind::layer
                                                      ? "it is damaged and may need any layer, so none is removed: remove it first"
                                                      : "it is damaged and may need any manifest or blob, so none is removed"});
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
    void take_some(const stop_flag& stop)
    {
        reader_.read_again(stop);
        std::size_t left = renames_per_lock;
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
            if (is_young(one)) // it was removed and created again since `keep_young`
                reader_.marks().need(one);
            else if (take(one))
                ++count_of(one.kind);
        } catch (const error& failure) {
            report_.left.push_back({path_of(one), failure.what()});
            reader_.marks().need(one);
        }
    }

    // False if another process has removed it.
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

    void remove(std::size_t i)
    {
        const trash& one = trash_[i];
        std::uint64_t freed = 0;
        try {
            remove_tree(one.directory, one.name, one.directory, {}, &freed);
        } catch (const error& failure) {
            const std::lock_guard guard(mutex_);
            report_.left.push_back({one.original_path, failure.what()});
        }
        bytes_ += freed;
    }

    // A dry run: lists what a collection would remove.
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

    void measure(std::size_t i, const stop_flag& stop)
    {
        bytes_ += tree_size(trash_[i].directory, trash_[i].name, [&stop] { stop.throw_if_stopped(); });
    }

    std::shared_ptr<state> repository_;
    collect_options options_;
    collection_reader reader_;
    collect_report report_;
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::vector<std::vector<kept_thing>> waves_;
    std::size_t wave_ = 0, next_ = 0; // next_: in the current wave
    bool wave_is_over_ = false, others_wait_ = false;
    std::set<std::string> touched_; // directories that objects were taken from
    std::vector<trash> trash_;
    std::atomic<std::uint64_t> bytes_ = 0;
    std::mutex mutex_; // protects `report_.left` while several workers remove
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
