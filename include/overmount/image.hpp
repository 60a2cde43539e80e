#ifndef OVERMOUNT_IMAGE_HPP
#define OVERMOUNT_IMAGE_HPP

#include <overmount/core/error.hpp>
#include <overmount/io/asset_stream.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/options.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/repository/records/records.hpp>
#include <overmount/runtime/asio.hpp>
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

namespace overmount::inline OVERMOUNT_ABI {

/// A mounted image or stack of layers; owns the mount. Destroyed, it takes the mount out of sight and reports nothing: what was written in a
/// writable one is kept, as a mount that is stopped. `unmount` says what went wrong, and removes what was written; after
/// `keep` the mount stays, also when the program has ended.
///
/// *Concurrency*: one object is not for two threads at once.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_mount
{
    using state = detail::repository_state<Storage>;

public:
    basic_mount(basic_mount&&) noexcept = default;
    basic_mount& operator=(basic_mount&& other) noexcept
    {
        std::swap(owned_, other.owned_);
        std::swap(record_, other.record_);
        return *this;
    }

    [[nodiscard]] const std::string& id() const noexcept { return record_.id; }
    /// The mount point, an absolute path.
    [[nodiscard]] const std::string& target() const noexcept { return record_.target; }
    [[nodiscard]] bool writable() const noexcept { return record_.writable; }

    /// Lets go of the mount: it stays until someone unmounts it.
    void keep() noexcept
    {
        if (owned_)
            owned_->over = true;
        owned_.reset();
    }

    /// Makes what was written in the mount a layer on top of those below, and an image of them: with the config of the image
    /// that is mounted, or an empty one where a layer is, and one more step in its history. Reads the upper directory alone; the mount stays as it is. Nothing written, no layer: the step says so.
    ///
    /// *Returns*: the new image. *Errors*: `mount_read_only`; those of `upper_reader`, such as `upper_changed` where
    /// something writes meanwhile; `invalid_config` of what the options make of it; errno values. Nothing is left then.
    /// *Cancellation*: any; likewise.
    [[nodiscard]] asio::awaitable<basic_image<Storage, Mount>> commit(commit_options options = commit_options()) const
        requires mountable_storage<Storage>
    {
        return commit_record(owned_ && !owned_->over ? owned_->owner : nullptr, record_, std::move(options));
    }

    /// Unmounts, and removes the upper of a writable mount.
    ///
    /// *Errors*: EBUSY where it is in use for more than a second, `mount_covered` where something else lies on top; the object still owns the
    /// mount, and the operation can be tried again. `mount_not_found` where it was unmounted by somebody else and is held
    /// by a process or another mount namespace, or where its record has gone.
    /// *Cancellation*: none once the kernel is called, which does not stop halfway; before that only while another
    /// operation works on the same mount. *Lifetimes*: the operation shares the mount with this object; where both are
    /// destroyed before its end, the mount is taken out of sight.
    [[nodiscard]] asio::awaitable<void> unmount() { return unmount_owned(owned_); }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_image;
    template <storage_policy, optional_mount_policy>
    friend class basic_layer;
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;

    // What an object owns, shared with its operation.
    struct ownership
    {
        ownership(std::shared_ptr<state> of, mount_record mounted) : owner(std::move(of)), record(std::move(mounted)) {}
        ownership(const ownership&) = delete;
        ownership& operator=(const ownership&) = delete;
        ~ownership();

        std::shared_ptr<state> owner;
        mount_record record;
        std::atomic<bool> over = false; // unmounted, or kept
        bool seen = true;               // nobody can have written in a mount that nobody was given
    };

    basic_mount(std::shared_ptr<state> owner, mount_record record)
        : owned_(std::make_shared<ownership>(std::move(owner), record)), record_(std::move(record))
    {
    }

    static asio::awaitable<basic_image<Storage, Mount>> commit_record(std::shared_ptr<state> owner, mount_record record,
                                                                      commit_options options);
    static asio::awaitable<void> unmount_owned(std::shared_ptr<ownership> mine);
    static asio::awaitable<void> unmount_record(std::shared_ptr<state> owner, mount_record record);
    // Nothing where another operation works on the mount, or until `patience` somebody uses it.
    static std::optional<bool> try_unmount(state& owner, const mount_record& record, std::chrono::steady_clock::time_point patience);
    static asio::awaitable<mount_state> state_of(std::shared_ptr<state> owner, mount_record record);
    static asio::awaitable<basic_mount> mount_now(std::shared_ptr<state> owner, mount_subject what, mount_options options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    // Nothing where another process is about to mount at the target.
    static std::optional<basic_mount> try_mount(std::shared_ptr<state> owner, const mount_subject& what, const mount_options& options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    static asio::awaitable<basic_mount> mount_again(std::shared_ptr<state> owner, std::string id, mount_options options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    static std::optional<basic_mount> try_mount_again(std::shared_ptr<state> owner, const std::string& id,
                                                      const mount_options& options)
        requires mountable_storage<Storage> && mount_policy<Mount>;
    // Records the identity of a mount that was made a moment ago.
    static basic_mount made(std::shared_ptr<state> owner, mount_record record, bool seen)
        requires mount_policy<Mount>;
    // `mount_exists` where a mount of a repository is at the directory.
    static void require_no_mount(const std::string& target)
        requires mount_policy<Mount>;

    std::shared_ptr<ownership> owned_;
    mount_record record_;
};

/// A handle on an image of a repository: cheap to copy, pins nothing. Two handles are equal when they name the same image,
/// also in different repositories.
///
/// *Concurrency*: operations may run at the same time; one object is not for two threads at once.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_image
{
    using state = detail::repository_state<Storage>;

public:
    /// The digest of the config.
    [[nodiscard]] const digest& id() const noexcept { return config_->id(); }
    [[nodiscard]] const image_config& config() const noexcept { return *config_; }
    /// The image's layers, topmost first, as its config names them; empty for an image without layers. Reads nothing.
    [[nodiscard]] std::vector<basic_layer<Storage, Mount>> layers() const;
    /// The topmost of them; nothing for an image without layers.
    [[nodiscard]] std::optional<basic_layer<Storage, Mount>> top() const;
    /// Of the tars of all layers, in bytes; one that stands there twice counts twice.
    ///
    /// *Errors*: `layer_not_found` where a diff is not there; `corrupt_repository`.
    [[nodiscard]] std::uint64_t size() const;
    /// The tags that point to the image, by name. \param damaged as with `basic_repository::images`
    [[nodiscard]] std::vector<tag_record> tags(const std::function<void(const error&)>& damaged = {}) const;
    /// A manifest that the image came with, byte for byte: that of one of its tags, else any other that names its config.
    /// Nothing where it came without, as from docker archives. Without a tag that knows one, it reads all manifests.
    ///
    /// *Errors*: `digest_mismatch` where the one that a tag names is damaged; `corrupt_repository`; errno values.
    [[nodiscard]] std::optional<overmount::manifest> manifest() const;

    /// Calls `visitor(const tar::entry&, const layer&)` for each path that the image shows, parents before their children, in
    /// the order of the paths' bytes: what a mount shows, worked out of the tars of the layers, with whiteouts applied. It
    /// comes with the layer whose entry it is. Paths have no slash in front; the root, where a layer has an entry for it, is
    /// `.`. Of hard links the first name is the file, the others are links to it. A directory that no layer has an entry for
    /// comes with the lowest layer that needs it. Memory grows with the number of entries. A storage without an index reads
    /// all bytes of the layers' tars, also for `open` and `layer_of`: one that unpacks has none.
    ///
    /// \param visitor is called on a worker, once at a time; what it throws ends the operation
    /// *Errors*: `layer_not_found`, `diff_damaged`; `too_many_entries` for a view beyond the limits; those of the storage.
    /// *Cancellation*: any.
    template <class Visitor>
    [[nodiscard]] asio::awaitable<void> files(Visitor visitor) const
        requires packable_storage<Storage>
    {
        return list_files(*this, listener(std::move(visitor)));
    }
    /// The bytes of a regular file that the image shows, with zeros in holes; its size is known.
    ///
    /// \param path with a slash in front or not; symbolic links on the way and at the end are followed as in a root of its own:
    ///     neither they nor `..` lead out of the image
    /// *Errors*: `entry_not_found`; `not_a_regular_file`; ENOTDIR, and ELOOP for more than 40 links; `diff_changed` where the file
    /// is not as it was unpacked; those of `files`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<asset_stream> open(std::string path) const
        requires packable_storage<Storage>
    {
        return open_file(*this, std::move(path));
    }
    /// The layer that what is shown at a path comes from.
    ///
    /// \param path as with `open`; a link at its end is not followed
    /// *Errors*: `entry_not_found`; ENOTDIR, ELOOP; those of `files`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<basic_layer<Storage, Mount>> layer_of(std::string path) const
        requires packable_storage<Storage>
    {
        return find_layer(*this, std::move(path));
    }

    /// Mounts the image with overlayfs.
    ///
    /// *Errors*: `diff_damaged` for a layer that a check found damaged; `too_many_layers`, `mount_failed` (its text names the
    /// step and the likely reason), EPERM; `mount_exists` where a mount of a repository is at the target.
    /// *Cancellation*: before the kernel is called; afterwards the mount is made. It is taken away again, with its record,
    /// where nobody is left to take it.
    [[nodiscard]] asio::awaitable<basic_mount<Storage, Mount>> mount(mount_options options = mount_options()) const
        requires mountable_storage<Storage> && mount_policy<Mount>
    {
        return mount_image(state_, config_, std::move(options));
    }

    /// Writes the image elsewhere. See `basic_repository::export_images`.
    template <exporter Exporter>
    [[nodiscard]] asio::awaitable<void> export_to(Exporter target, export_options options = export_options()) const
        requires packable_storage<Storage>
    {
        return detail::export_all(state_, configs_of({*this}), detail::any_exporter(std::move(target)), std::move(options));
    }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;
    template <storage_policy, optional_mount_policy>
    friend class basic_mount;

    basic_image(std::shared_ptr<state> owner, image_config config);

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
    return a.id() == b.id();
}
template <storage_policy Storage, optional_mount_policy Mount>
[[nodiscard]] std::strong_ordering operator<=>(const basic_image<Storage, Mount>& a, const basic_image<Storage, Mount>& b) noexcept
{
    return a.id() <=> b.id();
}
/// Writes the ID.
template <storage_policy Storage, optional_mount_policy Mount>
std::ostream& operator<<(std::ostream& to, const basic_image<Storage, Mount>& one)
{
    return to << one.id();
}

} // namespace overmount::inline OVERMOUNT_ABI

template <overmount::storage_policy Storage, overmount::optional_mount_policy Mount>
struct std::hash<overmount::basic_image<Storage, Mount>>
{
    std::size_t operator()(const overmount::basic_image<Storage, Mount>& value) const noexcept
    {
        return std::hash<overmount::digest>()(value.id());
    }
};

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/image.ipp>
#endif

#endif
