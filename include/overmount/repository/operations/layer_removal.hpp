#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_LAYER_REMOVAL_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_LAYER_REMOVAL_HPP

#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/collection_reader.hpp>
#include <overmount/repository/records/mount_table.hpp>
#include <overmount/repository/state.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Removes one layer, unless something needs it. Shared by the operation's coroutine and its worker threads.
template <storage_policy Storage>
class layer_removal
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<layer_removal>;

    layer_removal(std::shared_ptr<state> owner, chain_id chain)
        : repository_(std::move(owner)), chain_(std::move(chain)), reader_(repository_->records, repository_->bounds)
    {
    }

    static asio::awaitable<void> run(pointer self)
    {
        auto mark = [self](const stop_flag& stop) { self->mark(stop); };
        co_await run_on(self->repository_->pool, std::move(mark));
        auto take = [self](const stop_flag& stop) { self->take(stop); };
        co_await run_locked(self->repository_, lock_kind::exclusive, std::move(take));
        auto sync = [self](const stop_flag&) { self->sync(); };
        co_await run_on(self->repository_->pool, std::move(sync));
    }

private:
    // Without the lock.
    void mark(const stop_flag& stop)
    {
        if (!exists(repository_->records->base_fd(), layer_path(chain_)))
            throw error(errc::layer_not_found).at(stage::repository).layer(chain_.string());
        reader_.read(stop);
        reader_.marks().need_parents();
    }

    // Under the exclusive lock.
    void take(const stop_flag& stop)
    {
        const kept_thing one{kept_kind::layer, chain_.value()};
        reader_.read_again(stop);
        const auto doubtful = reader_.marks().doubtful();
        const auto other = std::find_if(doubtful.begin(), doubtful.end(), [&one](const kept_thing& damaged) {
            return damaged.kind == kept_kind::layer && damaged != one;
        });
        const bool needed = reader_.marks().is_needed(one);
        if (needed || other != doubtful.end())
            throw error(errc::layer_in_use)
                .at(stage::repository)
                .layer(chain_.string())
                .detail(needed ? needed_by() : path_of(*other) + " is damaged and may need this layer: remove it first");
        const store& records = *repository_->records;
        if (!remove_record(records.staging.fd(), records.base_fd(), path_of(one), durability::none))
            throw error(errc::layer_not_found).at(stage::repository).layer(chain_.string());
    }

    void sync() const
    {
        const std::string path = layer_path(chain_);
        if (repository_->sync != durability::none)
            sync_directory(open_directory(repository_->records->base_fd(), path.substr(0, path.rfind('/'))).get());
    }

    [[nodiscard]] std::string needed_by() const
    {
        for (const auto& [id, diffs] : reader_.images())
            for (const auto& [at, layer] : chain_of(diffs))
                if (at == chain_)
                    return "the image " + id.string() + " uses it";
        for (const auto& [above, layer] : reader_.layers())
            if (layer.parent == chain_)
                return "the layer " + above.string() + " is stacked on it";
        for (const mount_record& record : mount_table(repository_->records).list())
            if (record.layer == chain_)
                return "it is mounted at " + record.target;
        return "a lease keeps it";
    }

    std::shared_ptr<state> repository_;
    chain_id chain_;
    collection_reader reader_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
