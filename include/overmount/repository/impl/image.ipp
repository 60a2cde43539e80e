// What is done with an image and its mounts.
#ifndef OVERMOUNT_REPOSITORY_IMPL_IMAGE_IPP
#define OVERMOUNT_REPOSITORY_IMPL_IMAGE_IPP

#include <overmount/image.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/commit_run.hpp>
#include <overmount/repository/operations/export_run.hpp>
#include <overmount/repository/records/mount_table.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <algorithm>
#include <exception>
#include <optional>

namespace overmount::inline OVERMOUNT_ABI {

template <storage_policy Storage, optional_mount_policy Mount>
basic_mount<Storage, Mount>::~basic_mount()
{
    if (!state_)
        return;
    try {
        if (detail::mount_table::alive(record_, mountinfo::read())) // what others put there is theirs
            Mount::unmount(record_.target, true);
    } catch (const std::exception&) {
        // A destructor has nobody to tell; the record stays, and the next sweep takes it up.
    }
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_image<Storage, Mount>>
basic_mount<Storage, Mount>::commit_record(std::shared_ptr<state> owner, mount_record record, commit_options options)
{
    auto config = co_await detail::commit_upper(owner, std::move(record), std::move(options));
    co_return basic_image<Storage, Mount>(std::move(owner), std::move(config));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_mount<Storage, Mount>::unmount_owned(basic_mount mine)
{
    try {
        co_await unmount_record(mine.state_, mine.record_);
    } catch (const error&) {
        mine.keep(); // it is in use
        throw;
    }
    mine.keep();
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_mount<Storage, Mount>::unmount_record(std::shared_ptr<state> owner, mount_record record)
{
    auto work = [owner, record](const detail::stop_flag&) {
        detail::mount_table table(owner->records);
        if (detail::mount_table::alive(record, mountinfo::read()))
            Mount::unmount(record.target, false);
        table.remove(record);
    };
    co_await detail::run_on(owner->pool, std::move(work), detail::when_cancelled::go_on);
}

template <storage_policy Storage, optional_mount_policy Mount>
basic_image<Storage, Mount>::basic_image(std::shared_ptr<state> owner, image_config config)
    : state_(std::move(owner)), config_(detail::new_shared<const image_config>(std::move(config)))
{
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<chain_id> basic_image<Storage, Mount>::layers() const
{
    std::vector<chain_id> out;
    for (const diff_id& diff : config_->diff_ids())
        out.push_back(out.empty() ? chain_id::of(diff) : chain_id::of(out.back(), diff));
    std::reverse(out.begin(), out.end());
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<std::shared_ptr<const image_config>>
basic_image<Storage, Mount>::configs_of(const std::vector<basic_image>& images)
{
    std::vector<std::shared_ptr<const image_config>> out;
    for (const basic_image& one : images)
        out.push_back(one.config_);
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
mount_record basic_image<Storage, Mount>::mount_now(state& owner, const digest& id, const std::vector<chain_id>& layers,
                                                    const mount_options& options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    if (!owner.records->image(id))
        throw error(errc::image_not_found).at(stage::repository).subject(id.string());
    detail::mount_table table(owner.records);
    std::optional<chain_id> top;
    std::vector<detail::stacked_layer> stack;
    if (!layers.empty()) {
        top = layers.front();
        stack = owner.stack_of(*top);
    }
    mount_record record = table.add(id, options.target(), options.writable());
    try {
        Mount::mount(table.spec_of(record, top, stack), record.target);
    } catch (...) {
        table.remove(record);
        throw;
    }
    return record;
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_mount<Storage, Mount>>
basic_image<Storage, Mount>::mount_image(std::shared_ptr<state> owner, std::shared_ptr<const image_config> config,
                                         std::vector<chain_id> layers, mount_options options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    auto work = [owner, config, layers, options](const detail::stop_flag&) {
        // Owned from the first moment: nobody may be there to take it when the context goes.
        return basic_mount<Storage, Mount>(owner, mount_now(*owner, config->id(), layers, options));
    };
    // Locked until the mount is there: a mount keeps what it needs from the collection.
    co_return co_await detail::run_locked(owner, detail::lock_kind::roots, std::move(work));
}

template <packable_storage Storage>
asio::awaitable<void> detail::export_all(std::shared_ptr<repository_state<Storage>> owner,
                                         std::vector<std::shared_ptr<const image_config>> images, any_exporter target,
                                         export_options options)
{
    auto run = detail::new_shared<export_run<Storage>>(owner, std::move(images), std::move(options));
    auto work = run->run(run, std::move(target));
    auto clean = [run](const stop_flag&) { run->clean(); };
    co_await run_then_clean(owner->pool, std::move(work), std::move(clean));
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
