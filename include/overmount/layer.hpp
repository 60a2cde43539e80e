#ifndef OVERMOUNT_LAYER_HPP
#define OVERMOUNT_LAYER_HPP

#include <overmount/asset.hpp>
#include <overmount/core/handle.hpp>
#include <overmount/image.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/repository/records/records.hpp>
#include <overmount/repository/space.hpp>
#include <overmount/runtime/asio.hpp>
#include <overmount/runtime/operation.hpp>
#include <overmount/storage/diff_record.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// A handle on a layer of a repository: a diff on top of the layers below it. It is cheap to copy and does not keep the layer from
/// being collected; a lease or a mount does. Two handles are equal when they name the same layer, also in different repositories. An
/// empty handle sorts before all others; every member of it throws `invalid_handle` at the call.
///
/// Converts to its chain ID, so that a function that takes a chain ID takes the handle as well.
///
/// *Concurrency*: operations may run at the same time; one object must not be used by two threads at once. *Lifetimes*: handles
/// and operations keep the repository open.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_layer
{
    using state = detail::repository_state<Storage>;

public:
    /// An empty handle; a handle that was moved from is empty as well.
    basic_layer() = default;
    /// Whether the handle names a layer.
    [[nodiscard]] explicit operator bool() const noexcept { return node_ != nullptr; }

    /// The chain ID: a digest over the diff and all diffs below it.
    [[nodiscard]] const chain_id& id() const { return detail::valid(node_)->id; }
    /// The digest of the layer's own tar.
    [[nodiscard]] const diff_id& diff() const { return detail::valid(node_)->record.diff; }
    /// The chain ID of the layer below; nullopt for the lowest layer.
    [[nodiscard]] const std::optional<chain_id>& parent_id() const { return detail::valid(node_)->record.parent; }
    operator chain_id() const { return id(); }

    /// The layer below; nullopt for the lowest layer. Reads its record.
    ///
    /// *Errors*: `layer_not_found` if the repository has lost it, `corrupt_repository`.
    [[nodiscard]] std::optional<basic_layer> parent() const;

    /// The record that the storage wrote with the diff.
    ///
    /// *Errors*: `layer_not_found` if the diff is missing; `corrupt_repository`.
    [[nodiscard]] diff_record record() const;
    /// The size of the layer's own tar, in bytes. *Errors*: those of `record`.
    [[nodiscard]] std::uint64_t size() const { return record().bytes; }

    /// The stored content of the diff.
    [[nodiscard]] auto asset() const
        requires packable_storage<Storage>
    {
        return basic_asset<Storage>(state_, diff());
    }
    /// Calls `visitor(const tar::entry&)` for each entry of the layer's own tar. See `basic_asset::list`.
    template <class Visitor>
    [[nodiscard]] asio::awaitable<void> files(Visitor visitor) const
        requires packable_storage<Storage>
    {
        return asset().list(std::move(visitor));
    }
    /// Reads a regular file of the layer's own tar. See `basic_asset::open`.
    [[nodiscard]] asio::awaitable<asset_stream> open(std::string path) const
        requires packable_storage<Storage>
    {
        return asset().open(std::move(path));
    }
    /// Reads the layer's own tar, byte for byte. See `basic_asset::pack`.
    [[nodiscard]] asio::awaitable<asset_stream> pack() const
        requires packable_storage<Storage>
    {
        return asset().pack();
    }
    /// Reads the layer's own tar and compares its digest with `diff`. See `basic_asset::verify`.
    ///
    /// *Errors*: `invalid_asset` if they differ; `diff_changed` for a file that was changed since it was unpacked.
    /// *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> verify() const
        requires packable_storage<Storage>
    {
        return asset().verify();
    }

    /// Mounts the layer and all layers below it, without an image: a root for a sandbox. The layer is not collected as long as the
    /// mount is recorded. A commit of a writable mount makes an image with an empty config for this machine's platform.
    ///
    /// *Returns*: the mount. *Errors*: `layer_not_found`; those of `basic_image::mount`. *Cancellation*: as in `basic_image::mount`.
    [[nodiscard]] asio::awaitable<basic_mount<Storage, Mount>> mount(mount_options options = mount_options()) const
        requires mountable_storage<Storage> && mount_policy<Mount>
    {
        return detail::operation(mount_layer(state_, id(), std::move(options)));
    }

    /// Removes the layer; its diff and the layers below stay until they are collected. See `basic_repository::remove_layer`.
    ///
    /// *Errors*: `layer_in_use` if an image, another layer, a mount or a lease needs it; `layer_not_found`; those of
    /// `collect`. *Cancellation*: any, until the removal has begun.
    [[nodiscard]] asio::awaitable<void> remove() const { return detail::operation(basic_space<Storage, Mount>::remove_one_layer(state_, id())); }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;
    template <storage_policy, optional_mount_policy>
    friend class basic_image;

    struct node
    {
        chain_id id;
        layer_record record;
    };

    basic_layer(std::shared_ptr<state> owner, const chain_id& id, layer_record record);

    static asio::awaitable<basic_mount<Storage, Mount>> mount_layer(std::shared_ptr<state> owner, chain_id top, mount_options options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    // Throws `layer_not_found`, `corrupt_repository`.
    static basic_layer load(std::shared_ptr<state> owner, const chain_id& id);

    std::shared_ptr<state> state_;
    std::shared_ptr<const node> node_;
};

template <storage_policy Storage, optional_mount_policy Mount>
[[nodiscard]] bool operator==(const basic_layer<Storage, Mount>& a, const basic_layer<Storage, Mount>& b) noexcept
{
    return (a <=> b) == 0;
}
template <storage_policy Storage, optional_mount_policy Mount>
[[nodiscard]] std::strong_ordering operator<=>(const basic_layer<Storage, Mount>& a, const basic_layer<Storage, Mount>& b) noexcept
{
    if (!a || !b)
        return static_cast<bool>(a) <=> static_cast<bool>(b);
    return a.id() <=> b.id();
}
/// Writes the chain ID, or `(empty)`.
template <storage_policy Storage, optional_mount_policy Mount>
std::ostream& operator<<(std::ostream& to, const basic_layer<Storage, Mount>& one)
{
    return one ? to << one.id() : to << "(empty)";
}

} // namespace overmount::OVERMOUNT_ABI

template <overmount::storage_policy Storage, overmount::optional_mount_policy Mount>
struct std::hash<overmount::basic_layer<Storage, Mount>>
{
    std::size_t operator()(const overmount::basic_layer<Storage, Mount>& value) const noexcept
    {
        return value ? std::hash<overmount::chain_id>()(value.id()) : 0;
    }
};

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/layer.ipp>
#endif

#endif
