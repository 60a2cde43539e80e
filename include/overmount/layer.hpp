#ifndef OVERMOUNT_LAYER_HPP
#define OVERMOUNT_LAYER_HPP

#include <overmount/asset.hpp>
#include <overmount/image.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/repository/records/records.hpp>
#include <overmount/repository/space.hpp>
#include <overmount/runtime/asio.hpp>
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

namespace overmount::inline OVERMOUNT_ABI {

/// A handle on a layer of a repository: a diff on top of the layers below it. Cheap to copy, pins nothing: a lease or a
/// mount does. Two handles are equal when they name the same layer, also in different repositories.
///
/// Converts to its chain ID, so that whatever takes one takes the handle as well.
///
/// *Concurrency*: operations may run at the same time; one object is not for two threads at once. *Lifetimes*: handles
/// and operations keep the opened repository.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_layer
{
    using state = detail::repository_state<Storage>;

public:
    /// The chain ID: the digest of the diff and of all below it.
    [[nodiscard]] const chain_id& id() const noexcept { return node_->id; }
    /// The digest of the layer's own tar.
    [[nodiscard]] const diff_id& diff() const noexcept { return node_->record.diff; }
    /// Of the layer below; nothing for the lowest one.
    [[nodiscard]] const std::optional<chain_id>& parent_id() const noexcept { return node_->record.parent; }
    operator chain_id() const noexcept { return id(); }

    /// The layer below; nothing for the lowest one. Reads its record.
    ///
    /// *Errors*: `layer_not_found` where the repository has lost it, `corrupt_repository`.
    [[nodiscard]] std::optional<basic_layer> parent() const;

    /// What the storage noted of the diff when it was written.
    ///
    /// *Errors*: `layer_not_found` where the diff is not there; `corrupt_repository`.
    [[nodiscard]] diff_record record() const;
    /// Of the layer's own tar, in bytes. *Errors*: those of `record`.
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
    /// The bytes of a regular file of the layer's own tar. See `basic_asset::open`.
    [[nodiscard]] asio::awaitable<asset_stream> open(std::string path) const
        requires packable_storage<Storage>
    {
        return asset().open(std::move(path));
    }
    /// The layer's own tar, byte for byte. See `basic_asset::pack`.
    [[nodiscard]] asio::awaitable<asset_stream> pack() const
        requires packable_storage<Storage>
    {
        return asset().pack();
    }
    /// Reads the layer's own tar and compares its digest with `diff`. See `basic_asset::verify`.
    ///
    /// *Errors*: `invalid_asset` where they differ; `diff_changed` for a file that is not as it was unpacked. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> verify() const
        requires packable_storage<Storage>
    {
        return asset().verify();
    }

    /// Mounts the layer and all below it, without an image: a root for a sandbox. As long as the mount is recorded, the
    /// layer is not collected. To commit a writable one makes an image with an empty config for this machine's platform.
    ///
    /// *Returns*: the mount. *Errors*: `layer_not_found`; else those of `basic_image::mount`. *Cancellation*: as there.
    [[nodiscard]] asio::awaitable<basic_mount<Storage, Mount>> mount(mount_options options = mount_options()) const
        requires mountable_storage<Storage> && mount_policy<Mount>
    {
        return mount_layer(state_, id(), std::move(options));
    }

    /// Removes the layer; its diff, and the layers below, stay until they are collected. See `basic_repository::remove_layer`.
    ///
    /// *Errors*: `layer_in_use` where an image, another layer, a mount or a lease needs it; `layer_not_found`; those of
    /// `collect`. *Cancellation*: any, until it has begun to remove.
    [[nodiscard]] asio::awaitable<void> remove() const { return basic_space<Storage, Mount>::remove_one_layer(state_, id()); }

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
    return a.id() == b.id();
}
template <storage_policy Storage, optional_mount_policy Mount>
[[nodiscard]] std::strong_ordering operator<=>(const basic_layer<Storage, Mount>& a, const basic_layer<Storage, Mount>& b) noexcept
{
    return a.id() <=> b.id();
}
/// Writes the chain ID.
template <storage_policy Storage, optional_mount_policy Mount>
std::ostream& operator<<(std::ostream& to, const basic_layer<Storage, Mount>& one)
{
    return to << one.id();
}

} // namespace overmount::inline OVERMOUNT_ABI

template <overmount::storage_policy Storage, overmount::optional_mount_policy Mount>
struct std::hash<overmount::basic_layer<Storage, Mount>>
{
    std::size_t operator()(const overmount::basic_layer<Storage, Mount>& value) const noexcept
    {
        return std::hash<overmount::chain_id>()(value.id());
    }
};

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/layer.ipp>
#endif

#endif
