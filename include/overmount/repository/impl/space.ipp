// Leases, collection, and measuring of space.
#ifndef OVERMOUNT_REPOSITORY_IMPL_SPACE_IPP
#define OVERMOUNT_REPOSITORY_IMPL_SPACE_IPP

#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/collect_run.hpp>
#include <overmount/repository/operations/layer_removal.hpp>
#include <overmount/repository/operations/lease_run.hpp>
#include <overmount/repository/operations/usage_run.hpp>
#include <overmount/repository/space.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <algorithm>
#include <set>

namespace overmount::OVERMOUNT_ABI {

// Removes the leftovers of dead processes, and the records of read-only mounts that are no longer mounted. Part of each operation
// that writes.
template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_space<Storage, Mount>::sweep(std::shared_ptr<state> owner)
{
    auto work = [owner](const detail::stop_flag&) {
        owner->records->sweep();
        if constexpr (mountable_storage<Storage>)
            detail::mount_table(owner->records).sweep(detail::alive_by<Mount>());
    };
    co_await detail::run_on(owner->pool, std::move(work), detail::when_cancelled::go_on);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<collect_report> basic_space<Storage, Mount>::collect_all(std::shared_ptr<state> owner, collect_options options)
{
    auto mounts = [owner](const detail::stop_flag&) { // dead mounts would keep their layers
        if constexpr (mountable_storage<Storage>)
            detail::mount_table(owner->records).sweep(detail::alive_by<Mount>());
    };
    if (!options.dry_run())
        co_await detail::run_on(owner->pool, std::move(mounts));
    auto run = detail::new_shared<detail::collect_run<Storage>>(owner, options);
    auto work = run->collect(run);
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(clean));
    co_return run->report();
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_space<Storage, Mount>::remove_one_layer(std::shared_ptr<state> owner, chain_id chain)
{
    auto run = detail::new_shared<detail::layer_removal<Storage>>(owner, std::move(chain));
    co_await run->run(run);
    co_await sweep(std::move(owner));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<digest>> basic_space<Storage, Mount>::remove_unused(std::shared_ptr<state> owner)
{
    constexpr std::size_t removals_per_lock = 256;
    std::vector<digest> out;
    for (bool more = true; more;) {
        auto remove_some = [owner](const detail::stop_flag&) {
            const detail::store& records = *owner->records;
            const std::set<digest> used = detail::used_images(owner->records);
            if (owner->sync != durability::none)
                records.imports.make_removals_last(); // otherwise an import record may reappear after a crash and restore the image
            std::vector<digest> removed;
            for (const digest& id : records.image_files.list())
                if (removed.size() < removals_per_lock && !used.contains(id) &&
                    records.image_files.remove(records.staging.fd(), id, owner->sync))
                    removed.push_back(id);
            return removed;
        };
        const auto removed = co_await detail::run_locked(owner, detail::lock_kind::roots, std::move(remove_some));
        out.insert(out.end(), removed.begin(), removed.end());
        more = removed.size() == removals_per_lock;
    }
    co_await sweep(std::move(owner));
    co_return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<usage_report> basic_space<Storage, Mount>::measure(std::shared_ptr<state> owner)
{
    auto run = detail::new_shared<detail::usage_run<Storage>>(owner);
    co_await run->run(run);
    co_return run->report();
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<lease> basic_space<Storage, Mount>::lease_now(std::shared_ptr<state> owner, lease_request what)
{
    struct held final : overmount::lease::held
    {
        held(std::shared_ptr<detail::store> opened, detail::held_lease file) : records(std::move(opened)), lease(std::move(file)) {}
        std::shared_ptr<detail::store> records; // keeps the directory of the lease's file open
        detail::held_lease lease;
    };
    auto take = [owner, what](const detail::stop_flag&) {
        const detail::leased_things<Storage> things(*owner, what);
        return overmount::lease(std::make_unique<held>(owner->records, owner->records->leases.take(things.content())));
    };
    co_return co_await detail::run_locked(owner, detail::lock_kind::shared, std::move(take));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_space<Storage, Mount>::lease_by_name(std::shared_ptr<state> owner, std::string name,
                                                                 std::chrono::seconds time, lease_request what)
{
    auto run = detail::new_shared<detail::lease_run<Storage>>(owner, std::move(name), time, std::move(what));
    auto work = run->run(run);
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(clean));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_space<Storage, Mount>::end_by_name(std::shared_ptr<state> owner, std::string name)
{
    auto end = [owner, name](const detail::stop_flag&) {
        if (!owner->records->leases.end(owner->records->staging.fd(), name, owner->sync))
            throw error(errc::lease_not_found).at(stage::repository).subject(name);
    };
    co_await detail::run_locked(owner, detail::lock_kind::shared, std::move(end));
    co_await sweep(std::move(owner));
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<timed_lease> basic_space<Storage, Mount>::leases() const
{
    std::vector<timed_lease> out;
    const auto& files = opened()->records->leases;
    const auto now = detail::two_clocks::now();
    for (const std::string& file : files.files()) {
        const auto record = files.timed(file);
        if (!record)
            continue;
        timed_lease one{record->name, record->left(now), {}, {}};
        for (const detail::lease_line& line : detail::parse_lease(record->content.text()))
            if (line.kind == detail::leased_kind::image)
                one.images.push_back(line.id);
            else if (line.kind == detail::leased_kind::layer)
                one.layers.emplace_back(line.id);
        out.push_back(std::move(one));
    }
    std::sort(out.begin(), out.end(), [](const timed_lease& a, const timed_lease& b) { return a.name < b.name; });
    return out;
}

} // namespace overmount::OVERMOUNT_ABI

#endif
