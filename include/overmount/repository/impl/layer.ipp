// The operations on a layer.
#ifndef OVERMOUNT_REPOSITORY_IMPL_LAYER_IPP
#define OVERMOUNT_REPOSITORY_IMPL_LAYER_IPP

#include <overmount/layer.hpp>
#include <overmount/repository/operations/lease_run.hpp>
#include <overmount/repository/state.hpp>

namespace overmount::OVERMOUNT_ABI {

template <storage_policy Storage, optional_mount_policy Mount>
basic_layer<Storage, Mount>::basic_layer(std::shared_ptr<state> owner, const chain_id& id, layer_record record)
    : state_(std::move(owner)), node_(std::make_shared<const node>(node{id, std::move(record)}))
{
}

template <storage_policy Storage, optional_mount_policy Mount>
basic_layer<Storage, Mount> basic_layer<Storage, Mount>::load(std::shared_ptr<state> owner, const chain_id& id)
{
    auto found = owner->records->layers.find_own(id);
    if (!found)
        throw error(errc::layer_not_found).at(stage::repository).layer(id.string());
    return basic_layer(std::move(owner), id, std::move(*found));
}

template <storage_policy Storage, optional_mount_policy Mount>
std::optional<basic_layer<Storage, Mount>> basic_layer<Storage, Mount>::parent() const
{
    return parent_id() ? std::optional(load(state_, *parent_id())) : std::nullopt;
}

template <storage_policy Storage, optional_mount_policy Mount>
diff_record basic_layer<Storage, Mount>::record() const
{
    const diff_id& wanted = diff();
    return state_->storage.record(wanted);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_mount<Storage, Mount>>
basic_layer<Storage, Mount>::mount_layer(std::shared_ptr<state> owner, chain_id top, mount_options options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    // What is written in the mount needs the layers below it, also after a power cut.
    if (options.writable() && !options.accepts_damaged() && owner->sync != durability::none)
        co_await detail::make_layer_durable(owner, top);
    mount_subject what(top);
    co_return co_await basic_mount<Storage, Mount>::mount_now(std::move(owner), std::move(what), std::move(options));
}

} // namespace overmount::OVERMOUNT_ABI

#endif
