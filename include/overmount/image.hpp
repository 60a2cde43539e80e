#ifndef OVERMOUNT_IMAGE_HPP
#define OVERMOUNT_IMAGE_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/handle.hpp>
#include <overmount/io/asset_stream.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/options.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/repository/records/records.hpp>
#include <overmount/runtime/asio.hpp>
#include <overmount/runtime/operation.hpp>
#include <overmount/tar/entry.hpp>

#include <atomic>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// A mounted image or stack of layers. The object owns the mount. Its destructor detaches the mount and reports no error; what was
/// written in a writable mount is kept, and the mount is recorded as stopped. `unmount` reports errors, and removes what was written.
/// After `keep` the mount stays, also when the program has ended. Every member of an empty object throws `invalid_handle` at the call.
///
/// *Concurrency*: one object must not be used by two threads at once.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_mount
{
    using state = detail::repository_state<Storage>;

public:
    /// An empty object; an object that was moved from is empty as well.
    basic_mount() = default;
    basic_mount(basic_mount&&) noexcept = default;
    /// Treats the mount that the object owned before as the destructor does.
    basic_mount& operator=(basic_mount&&) noexcept = default;
    /// Whether the object owns a mount. It does not if it is empty, nor after `keep` and `unmount`.
    [[nodiscard]] explicit operator bool() const noexcept { return owned_ && !owned_->over; }

    [[nodiscard]] const std::string& id() const { return record().id; }
    /// The mount point, an absolute path.
    [[nodiscard]] const std::string& target() const { return record().target; }
    [[nodiscard]] bool writable() const { return record().writable; }

    /// Gives up ownership: the mount stays until it is unmounted by its record.
    void keep() { detail::valid(owned_)->over = true; }

    /// Makes a layer of what was written in the mount, and an image of the mounted layers with this layer on top. The image has the
    /// config of the mounted image, or an empty config if a layer is mounted, and one more history entry. Only the upper directory
    /// is read; the mount does not change. If nothing was written there is no new layer, and the history entry says so.
    ///
    /// *Returns*: the new image. *Errors*: `mount_read_only`; those of `upper_reader`, such as `upper_changed` if something writes
    /// at the same time; `invalid_config` if the options make an invalid config; errno values. Nothing is left after a failure.
    /// *Cancellation*: any; nothing is left.
    [[nodiscard]] asio::awaitable<basic_image<Storage, Mount>> commit(commit_options options = commit_options()) const
        requires mountable_storage<Storage>
    {
        return detail::operation(commit_record(*this ? owned_->owner : nullptr, record(), std::move(options)));
    }

    /// Unmounts, and removes the upper directory of a writable mount.
    ///
    /// *Errors*: EBUSY if the mount is in use for more than a second, `mount_covered` if another mount lies on top of it; the object
    /// still owns the mount, and the operation can be tried again. `mount_not_found` if someone else unmounted it and a process or
    /// another mount namespace still holds it, or if its record is gone.
    /// *Cancellation*: only while the operation waits for another operation on the same mount; the call of the kernel is not
    /// interrupted. *Lifetimes*: the operation shares the mount with this object; if both are destroyed before it has ended, the
    /// mount is detached.
    [[nodiscard]] asio::awaitable<void> unmount() { return detail::operation(unmount_owned(detail::valid(owned_))); }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_image;
    template <storage_policy, optional_mount_policy>
    friend class basic_layer;
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;

    // The owned mount, shared by the object and its running operation.
    struct ownership
    {
        ownership(std::shared_ptr<state> of, mount_record mounted) : owner(std::move(of)), record(std::move(mounted)) {}
        ownership(const ownership&) = delete;
        ownership& operator=(const ownership&) = delete;
        ~ownership();

        std::shared_ptr<state> owner;
        mount_record record;
        std::atomic<bool> over = false; // unmounted, or kept
        bool seen = true;               // false until the caller has the mount: nothing can have been written in it
    };

    basic_mount(std::shared_ptr<state> owner, mount_record record)
        : owned_(std::make_shared<ownership>(std::move(owner), std::move(record)))
    {
    }
    [[nodiscard]] const mount_record& record() const { return detail::valid(owned_)->record; }

    static asio::awaitable<basic_image<Storage, Mount>> commit_record(std::shared_ptr<state> owner, mount_record record,
                                                                      commit_options options);
    static asio::awaitable<void> unmount_owned(std::shared_ptr<ownership> mine);
    static asio::awaitable<void> unmount_record(std::shared_ptr<state> owner, mount_record record);
    // nullopt (try again) while another operation works on the mount and, until `patience`, while the mount is in use.
    static std::optional<bool> try_unmount(state& owner, const mount_record& record, std::chrono::steady_clock::time_point patience);
    static asio::awaitable<mount_state> state_of(std::shared_ptr<state> owner, mount_record record);
    static asio::awaitable<basic_mount> mount_now(std::shared_ptr<state> owner, mount_subject what, mount_options options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    // nullopt (try again) while another process is about to mount at the target.
    static std::optional<basic_mount> try_mount(std::shared_ptr<state> owner, const mount_subject& what, const mount_options& options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    static asio::awaitable<basic_mount> mount_again(std::shared_ptr<state> owner, std::string id, mount_options options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    static std::optional<basic_mount> try_mount_again(std::shared_ptr<state> owner, const std::string& id,
                                                      const mount_options& options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    // Takes ownership of a new mount and records its identity.
    static basic_mount made(std::shared_ptr<state> owner, mount_record record, bool seen)
        requires mount_policy<Mount>;
    // Throws `mount_exists` if a mount of any repository is at the directory.
    static void require_no_mount(const std::string& target)
        requires mount_policy<Mount>;

    std::shared_ptr<ownership> owned_;
};

/// A handle on an image of a repository. It is cheap to copy and does not keep the image from being removed. Two handles are equal
/// when they name the same image, also in different repositories. An empty handle sorts before all others; every member of it throws
/// `invalid_handle` at the call.
///
/// *Concurrency*: operations may run at the same time; one object must not be used by two threads at once.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_image
{
    using state = detail::repository_state<Storage>;

public:
    /// An empty handle; a handle that was moved from is empty as well.
    basic_image() = default;
    /// Whether the handle names an image.
    [[nodiscard]] explicit operator bool() const noexcept { return config_ != nullptr; }

    /// The digest of the config.
    [[nodiscard]] const digest& id() const { return config().id(); }
    [[nodiscard]] const image_config& config() const { return *detail::valid(config_); }
    /// The image's layers, topmost first, as its config names them; empty for an image without layers. Reads no file.
    [[nodiscard]] std::vector<basic_layer<Storage, Mount>> layers() const;
    /// The topmost layer; nullopt for an image without layers.
    [[nodiscard]] std::optional<basic_layer<Storage, Mount>> top() const;
    /// The total size of the tars of all layers, in bytes; a diff that is used twice counts twice.
    ///
    /// *Errors*: `layer_not_found` if a diff is missing; `corrupt_repository`.
    [[nodiscard]] std::uint64_t size() const;
    /// The tags that point to the image, sorted by name. \param damaged as in `basic_repository::images`
    [[nodiscard]] std::vector<tag_record> tags(const std::function<void(const error&)>& damaged = {}) const;
    /// A manifest that the image was imported with, byte for byte: the manifest of one of its tags, or else any manifest that names
    /// its config. nullopt if it was imported without a manifest, as from docker archives. If no tag names one, all manifests of the
    /// repository are read.
    ///
    /// *Errors*: `digest_mismatch` if the manifest that a tag names is damaged; `corrupt_repository`; errno values.
    [[nodiscard]] std::optional<overmount::manifest> manifest() const;

    /// Calls `visitor(const tar::entry&, const layer&)` for each path that a mount of the image would show. The paths are computed
    /// from the layers' tars, with whiteouts applied, and come in the order of their bytes, parents before children. `layer` is the
    /// layer that the entry comes from; for a directory without an entry in any layer, the lowest layer that needs it. Paths have no
    /// leading slash; the root is `.`, and comes only if a layer has an entry for it. The first of several hard links is the file,
    /// the others are links to it. Memory grows with the number of entries. A storage without an index (one that unpacks has none)
    /// reads all bytes of the layers' tars, here and for `open` and `layer_of`.
    ///
    /// \param visitor is called on a worker thread, one call at a time; an exception that it throws ends the operation
    /// *Errors*: `layer_not_found`, `diff_damaged`; `too_many_entries` if the merged view exceeds the limits; those of the storage.
    /// *Cancellation*: any.
    template <class Visitor>
    [[nodiscard]] asio::awaitable<void> files(Visitor visitor) const
        requires packable_storage<Storage>
    {
        return detail::operation(list_files(valid(), listener(std::move(visitor))));
    }
    /// Reads a regular file of the image, as a mount would show it; holes are read as zeros. The stream's size is known.
    ///
    /// \param path with or without a leading slash; symbolic links on the way and at the end are followed as after a chroot into the
    ///     image: neither they nor `..` lead out of it
    /// *Errors*: `entry_not_found`; `not_a_regular_file`; ENOTDIR, and ELOOP for more than 40 links; `diff_changed` if the file
    /// was changed since it was unpacked; those of `files`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<asset_stream> open(std::string path) const
        requires packable_storage<Storage>
    {
        return detail::operation(open_file(valid(), std::move(path)));
    }
    /// Finds the layer that the entry at a path comes from.
    ///
    /// \param path as in `open`, but a link at its end is not followed
    /// *Errors*: `entry_not_found`; ENOTDIR, ELOOP; those of `files`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<basic_layer<Storage, Mount>> layer_of(std::string path) const
        requires packable_storage<Storage>
    {
        return detail::operation(find_layer(valid(), std::move(path)));
    }

    /// Mounts the image with overlayfs.
    ///
    /// *Errors*: `diff_damaged` for a layer that a check found damaged; `too_many_layers`, `mount_failed` (its text names the
    /// step and the likely reason), EPERM; `mount_exists` if a mount of any repository is at the target.
    /// *Cancellation*: only before the kernel is called; after that the mount is made. If the operation's result can no longer be
    /// delivered, as when its context is destroyed, the mount is detached and its record removed.
    [[nodiscard]] asio::awaitable<basic_mount<Storage, Mount>> mount(mount_options options = mount_options()) const
        requires mountable_storage<Storage> && mount_policy<Mount>
    {
        return detail::operation(mount_image(valid().state_, config_, std::move(options)));
    }

    /// Writes the image to `target`. See `basic_repository::export_images`.
    template <exporter Exporter>
    [[nodiscard]] asio::awaitable<void> export_to(Exporter target, export_options options = export_options()) const
        requires packable_storage<Storage>
    {
        return detail::operation(detail::export_all(valid().state_, configs_of({*this}), any_exporter(std::move(target)), std::move(options)));
    }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;
    template <storage_policy, optional_mount_policy>
    friend class basic_mount;

    basic_image(std::shared_ptr<state> owner, image_config config);

    // Throws `invalid_handle`.
    [[nodiscard]] const basic_image& valid() const
    {
        static_cast<void>(detail::valid(config_));
        return *this;
    }

    using listener = std::function<void(const tar::entry&, const basic_layer<Storage, Mount>&)>;
    static asio::awaitable<void> list_files(basic_image self, listener hears)
        requires packable_storage<Storage>;
    static asio::awaitable<asset_stream> open_file(basic_image self, std::string path)
        requires packable_storage<Storage>;
    static asio::awaitable<basic_layer<Storage, Mount>> find_layer(basic_image self, std::string path)
        requires packable_storage<Storage>;

    static std::vector<std::shared_ptr<const image_config>> configs_of(const std::vector<basic_image>& images);
    static asio::awaitable<basic_mount<Storage, Mount>> mount_image(std::shared_ptr<state> owner,
                                                                    std::shared_ptr<const image_config> config,
                                                                    mount_options options)
        requires mountable_storage<Storage> && mount_policy<Mount>;

    std::shared_ptr<state> state_;
    std::shared_ptr<const image_config> config_;
};

template <storage_policy Storage, optional_mount_policy Mount>
[[nodiscard]] bool operator==(const basic_image<Storage, Mount>& a, const basic_image<Storage, Mount>& b) noexcept
{
    return (a <=> b) == 0;
}
template <storage_policy Storage, optional_mount_policy Mount>
[[nodiscard]] std::strong_ordering operator<=>(const basic_image<Storage, Mount>& a, const basic_image<Storage, Mount>& b) noexcept
{
    if (!a || !b)
        return static_cast<bool>(a) <=> static_cast<bool>(b);
    return a.id() <=> b.id();
}
/// Writes the ID, or `(empty)`.
template <storage_policy Storage, optional_mount_policy Mount>
std::ostream& operator<<(std::ostream& to, const basic_image<Storage, Mount>& one)
{
    return one ? to << one.id() : to << "(empty)";
}

} // namespace overmount::OVERMOUNT_ABI

template <overmount::storage_policy Storage, overmount::optional_mount_policy Mount>
struct std::hash<overmount::basic_image<Storage, Mount>>
{
    std::size_t operator()(const overmount::basic_image<Storage, Mount>& value) const noexcept
    {
        return value ? std::hash<overmount::digest>()(value.id()) : 0;
    }
};

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/image.ipp>
#endif

#endif
