#ifndef OVERMOUNT_REPOSITORY_HPP
#define OVERMOUNT_REPOSITORY_HPP

#include <overmount/asset.hpp>
#include <overmount/change.hpp>
#include <overmount/image.hpp>
#include <overmount/importer/any_importer.hpp>
#include <overmount/importer/archive.hpp>
#include <overmount/io/byte_stream.hpp>
#include <overmount/layer.hpp>
#include <overmount/mount/overlay_mount.hpp>
#include <overmount/repository/integrity.hpp>
#include <overmount/repository/space.hpp>
#include <overmount/runtime/operation.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// A repository: a directory that holds images, with their layers, configs, tags and mounts.
///
/// The object is a small handle: copies share the opened repository. Several processes may use one directory at the same time.
/// *Concurrency*: all members may be called from any thread; one object must not be used by two threads at once. "*Cancellation*: any"
/// means all cancellation types; docs/tokens.md says which reach an operation, and how completion tokens receive results.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_repository : public basic_integrity<Storage, Mount>
{
    using basic_integrity<Storage, Mount>::opened;
    using basic_integrity<Storage, Mount>::sweep;
    using state = detail::repository_state<Storage>;
#ifdef OVERMOUNT_SEPARATE_COMPILATION
    static_assert(detail::has_bodies<Storage, Mount>,
                  "with policies other than those of repository and virtual_repository, include <overmount/own_policies.hpp>");
#endif

public:
    using image = basic_image<Storage, Mount>;
    using mount = basic_mount<Storage, Mount>;
    using layer_type = basic_layer<Storage, Mount>; ///< `layer` looks one up

    /// An empty handle; a handle that was moved from is empty as well. Every member then throws `invalid_handle` at the call.
    basic_repository() = default;

    /// Opens the repository at `base`, or creates one there. Starts nothing in the background; the leftovers of dead processes are
    /// removed by the next operation that writes.
    ///
    /// *Errors*: `not_a_repository`, `unsupported_repository`, `repository_open_to_others`, errno values.
    /// *Cancellation*: any; at most an empty repository is left.
    [[nodiscard]] static asio::awaitable<basic_repository>
    open(std::filesystem::path base, repository_options options = repository_options())
    {
        return detail::operation(open_at(std::move(base), std::move(options)));
    }

    /// Imports all images that `source` offers.
    ///
    /// *Returns*: the images, in the source's order. *Errors*: those of the source; those of a layer, with its diff ID and the
    /// entry; errno values such as ENOSPC. After a failure no incomplete part of the import is visible; layers that were published
    /// earlier in the import may stay. *Cancellation*: any; staging directories are removed before the operation completes.
    template <importer Importer>
    [[nodiscard]] asio::awaitable<std::vector<image>>
    import_images(Importer source, import_options options = import_options()) const
    {
        return detail::operation(import_all(opened(), any_importer(std::move(source)), std::move(options)));
    }

    /// The same for an archive from a stream. The context of the stream's executor must run. *Errors*: also those of the stream.
    [[nodiscard]] asio::awaitable<std::vector<image>>
    import_images(archive_stream source, import_options options = import_options()) const
    {
        return detail::operation(import_stream(opened(), std::move(source), std::move(options)));
    }
    /// The same for an archive file that is compressed as a whole.
    [[nodiscard]] asio::awaitable<std::vector<image>>
    import_images(archive_file source, import_options options = import_options()) const
    {
        return detail::operation(import_file(opened(), std::move(source), std::move(options)));
    }

    /// The same for a source with one image. *Errors*: also `ambiguous_image` if the source does not offer exactly one.
    template <importer Importer>
    [[nodiscard]] asio::awaitable<image> import_image(Importer source,
                                                      import_options options = import_options()) const
    {
        return detail::operation(import_one(opened(), any_importer(std::move(source)), std::move(options)));
    }

    /// Writes images to one target: their configs byte for byte, their layers with the same diff IDs, each layer once.
    ///
    /// *Errors*: `layer_not_found`; `invalid_asset` and those of the storage for a damaged layer; `invalid_reference`
    /// for a name; those of the target. Nothing is left in the target then. *Cancellation*: any; nothing is left.
    template <exporter Exporter>
    [[nodiscard]] asio::awaitable<void> export_images(const std::vector<image>& images, Exporter target,
                                                      export_options options = export_options()) const
        requires packable_storage<Storage>
    {
        return detail::operation(detail::export_all(opened(), image::configs_of(images), any_exporter(std::move(target)),
                                                    std::move(options)));
    }

    /// All images, sorted by ID.
    ///
    /// \param damaged is called for each record that cannot be read, with its path in the repository; the others are listed
    [[nodiscard]] std::vector<image> images(const std::function<void(const error&)>& damaged = {}) const;

    /// Finds an image by a tag, or else by its ID or the first hex digits of the ID, at least four. *Errors*: `image_not_found`,
    /// `ambiguous_image_id`.
    [[nodiscard]] image find_image(std::string_view name) const;

    /// Removes an image and its tags; its layers stay until they are collected.
    ///
    /// *Errors*: `image_in_use` while it is mounted, or while a stopped writable mount of it could still be committed;
    /// `image_not_found`; `repository_busy`. *Cancellation*: any, until the removal has begun.
    [[nodiscard]] asio::awaitable<void> remove_image(digest id) const { return detail::operation(remove_one(opened(), std::move(id))); }

    /// All tags, sorted by name. \param damaged as in `images`
    [[nodiscard]] std::vector<tag_record> tags(const std::function<void(const error&)>& damaged = {}) const;
    /// Finds a tag by its name. *Errors*: `tag_not_found`, `invalid_reference`.
    [[nodiscard]] tag_record tag(std::string_view name) const;
    /// Whether an import of what the tag names would add nothing: image, documents and layers are here, undamaged as far as is known, and
    /// as durable as the repository's durability asks for; then the tag is, too. *Errors*: as in `tag`.
    [[nodiscard]] asio::awaitable<bool> confirm_tag(std::string name) const { return detail::operation(confirm(opened(), std::move(name))); }
    /// Makes `name` point to an image; replaces a tag of that name.
    ///
    /// *Errors*: `invalid_reference`, `image_not_found`, `layer_not_found`, `repository_busy`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> add_tag(std::string name, digest id) const
    {
        return detail::operation(tag_image(opened(), std::move(name), std::move(id)));
    }
    /// Removes a tag. *Errors*: `tag_not_found`, `invalid_reference`, `repository_busy`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> remove_tag(std::string name) const { return detail::operation(untag(opened(), std::move(name))); }

    /// Creates a layer on top of `parent` from the tar `file`, plain or compressed with gzip or zstd. No image has the layer yet.
    ///
    /// \param file   a regular file, read by offset
    /// \param parent nullopt for the lowest layer of a chain
    /// *Returns*: the layer, also if it existed before. *Errors*: `layer_not_found` for the parent; those of a tar and its
    /// compression, with the entry; errno values. Nothing is left then. *Cancellation*: as in `import_images`.
    [[nodiscard]] asio::awaitable<layer_type> create_layer(std::filesystem::path file,
                                                           std::optional<chain_id> parent = std::nullopt) const;

    /// The same from a stream of bytes, such as a pipe or a socket, which is read to its end, one piece in memory at a time.
    ///
    /// *Errors*: also those of the stream. *Lifetimes*: the operation owns the stream; the context of its executor must run.
    [[nodiscard]] asio::awaitable<layer_type> create_layer(byte_stream stream,
                                                           std::optional<chain_id> parent = std::nullopt) const;
    template <async_read_stream Stream>
    [[nodiscard]] asio::awaitable<layer_type> create_layer(Stream stream,
                                                           std::optional<chain_id> parent = std::nullopt) const
    {
        return create_layer(byte_stream(std::move(stream)), std::move(parent));
    }

    /// Creates an image from a config and existing layers.
    ///
    /// \param config  is kept unchanged if it names layers; otherwise it gets the layers of the chain
    /// \param top     the image's topmost layer; without it the config names the layers
    /// \param options the tags of the image
    /// *Errors*: `image_cannot_be_composed` if config and chain do not match; `layer_not_found`; `invalid_reference` for a tag;
    /// `repository_busy`. Nothing is created then. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<image> create_image(image_config config, std::optional<chain_id> top = std::nullopt,
                                                      import_options options = import_options()) const
    {
        return detail::operation(compose(opened(), std::move(config), std::move(top), std::move(options)));
    }

    /// Compares the merged views of two stacks of layers; lists the paths that differ, in the order of their bytes. Entries that come
    /// from the same entry of the same diff are equal; of others, type, mode, owner, size, time, link target, device and xattrs are
    /// compared, and if these are equal, the data. A directory's own attributes count, not its content.
    ///
    /// \param from, to the topmost layers; nullopt stands for no layers
    /// *Errors*: `layer_not_found`; `too_many_entries` if a merged view exceeds the limits; those of the storage.
    /// *Cancellation*: any.
    [[nodiscard]] asio::awaitable<std::vector<change>> diff(std::optional<chain_id> from, std::optional<chain_id> to) const
        requires packable_storage<Storage>
    {
        return detail::operation(changes_between(opened(), std::move(from), std::move(to)));
    }
    /// The same for two images.
    [[nodiscard]] asio::awaitable<std::vector<change>> diff(const image& from, const image& to) const
        requires packable_storage<Storage>
    {
        return diff(from.top(), to.top());
    }
    /// Reads the merged view of a stack of layers as one tar: without whiteouts, in the order of the paths' bytes; the same layers
    /// give the same bytes. The first of several hard links has the data; sparse files are written with their zeros.
    ///
    /// \param top the topmost layer; nullopt stands for no layers
    /// *Returns*: the tar; its size is known. *Errors*: those of `diff`; `diff_changed` for a file that was changed since it was
    /// unpacked. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<asset_stream> flatten(std::optional<chain_id> top) const
        requires packable_storage<Storage>
    {
        return detail::operation(flatten_chain(opened(), std::move(top)));
    }
    [[nodiscard]] asio::awaitable<asset_stream> flatten(const image& from) const
        requires packable_storage<Storage>
    {
        return flatten(from.top());
    }
    /// Creates an image with the same merged view in one layer: with the same config, but one history entry.
    ///
    /// \param options the tags of the new image
    /// *Errors*: those of `flatten` and of `create_layer`. *Cancellation*: as in `create_layer`; a finished layer may stay.
    [[nodiscard]] asio::awaitable<image> squash(image from, import_options options = import_options()) const
        requires packable_storage<Storage>
    {
        return detail::operation(squash_image(opened(), std::move(from), std::move(options)));
    }

    /// All layers, sorted by chain ID. \param damaged as in `images`
    [[nodiscard]] std::vector<layer_type> layers(const std::function<void(const error&)>& damaged = {}) const;
    /// The layer with that chain ID. *Errors*: `layer_not_found`, `corrupt_repository`.
    [[nodiscard]] layer_type layer(const chain_id& chain) const { return layer_type::load(opened(), chain); }
    /// Finds a layer by its chain ID or the first hex digits of it, at least four.
    ///
    /// *Errors*: `layer_not_found`, `ambiguous_layer_id`, `corrupt_repository`.
    [[nodiscard]] layer_type find_layer(std::string_view name) const;
    /// Whether the repository has a layer with that chain ID. *Errors*: `corrupt_repository` for its record.
    [[nodiscard]] bool contains(const chain_id& chain) const;
    /// Whether the repository has the content of that diff and trusts it. It does not trust a diff that a check found damaged, or
    /// that a power cut may have damaged. *Errors*: `corrupt_repository`.
    [[nodiscard]] bool contains(const diff_id& id) const;
    /// The record that the storage wrote with a diff. *Errors*: `layer_not_found`, `corrupt_repository`.
    [[nodiscard]] diff_record diff(const diff_id& id) const;
    /// The stored content of a diff, to list and read it. *Errors*: `layer_not_found`.
    [[nodiscard]] auto asset(const diff_id& id) const
        requires packable_storage<Storage>
    {
        require_diff(id);
        return basic_asset<Storage>(opened(), id);
    }
    /// Creates a layer on top of `parent` from a diff of another repository, with any storage; each stores it in its own form.
    ///
    /// *Returns*: the layer, also if it existed before. *Errors*: `layer_not_found` for the parent and the diff;
    /// `diff_id_mismatch` if the other repository is damaged; those of a tar. *Cancellation*: as in `import_images`.
    template <packable_storage Other>
    [[nodiscard]] asio::awaitable<layer_type>
    import_asset(basic_asset<Other> source, std::optional<chain_id> parent = std::nullopt) const
    {
        return detail::operation(import_tar(opened(), source.id(), source.opener(), std::move(parent)));
    }

    /// All recorded mounts, also those of other processes and of earlier boots. \param damaged as in `images`
    [[nodiscard]] std::vector<mount_record> mounts(const std::function<void(const error&)>& damaged = {}) const;
    /// Finds recorded mounts by a name: the mount that is now at that directory, or else the mounts that were recorded there; or else
    /// those whose ID begins with the name (at least 4 characters). *Returns*: an empty vector if there is none.
    [[nodiscard]] std::vector<mount_record> find_mounts(const std::string& name) const
        requires mount_policy<Mount>;
    /// Whether a recorded mount is mounted. *Cancellation*: before it has begun. *See*: docs/design/mounts.md.
    [[nodiscard]] asio::awaitable<mount_state> state_of(mount_record record) const
        requires mount_policy<Mount>
    {
        return detail::operation(mount::state_of(opened(), std::move(record)));
    }
    /// Mounts a stopped writable mount again, with what was written in it, at its old target or at the target of the options.
    ///
    /// *Errors*: `mount_exists` if it is alive, or if a mount of any repository is at the target; `mount_not_durable` if the machine
    /// went down while it was volatile, unless the options accept that; `mount_read_only`; `mount_not_found`; those of
    /// `basic_image::mount`. The mount then stays stopped, unchanged. *Cancellation*: only before the kernel is called; if the
    /// result can no longer be delivered, the mount is stopped again.
    [[nodiscard]] asio::awaitable<mount> mount_again(mount_record record, mount_options options = mount_options()) const
        requires mountable_storage<Storage> && mount_policy<Mount>
    {
        return detail::operation(mount::mount_again(opened(), std::move(record.id), std::move(options)));
    }
    /// Unmounts a recorded mount of any process, unless it is stopped, and removes its record and what was written in it.
    /// See `basic_mount::unmount`.
    [[nodiscard]] asio::awaitable<void> unmount(mount_record record) const
        requires mount_policy<Mount>
    {
        return detail::operation(mount::unmount_record(opened(), std::move(record)));
    }

    /// Makes an image of what was written in a recorded mount of any process, alive or stopped. See `basic_mount::commit`.
    ///
    /// *Errors*: also `mount_not_durable` if the machine went down while it was volatile, unless the options accept that.
    [[nodiscard]] asio::awaitable<image> commit(mount_record record, commit_options options = commit_options()) const
        requires mount_policy<Mount>
    {
        return detail::operation(mount::commit_record(opened(), std::move(record), std::move(options)));
    }

    [[nodiscard]] const std::filesystem::path& base() const;
    [[nodiscard]] const limits& bounds() const;

private:
    explicit basic_repository(std::shared_ptr<state> owner) : basic_integrity<Storage, Mount>(std::move(owner)) {}

    static asio::awaitable<void> remove_one(std::shared_ptr<state> owner, digest id);
    static asio::awaitable<bool> confirm(std::shared_ptr<state> owner, std::string name);
    static asio::awaitable<void> tag_image(std::shared_ptr<state> owner, std::string name, digest id);
    static asio::awaitable<void> untag(std::shared_ptr<state> owner, std::string name);
    static asio::awaitable<basic_repository> open_at(std::filesystem::path base, repository_options options);
    static asio::awaitable<std::vector<image>>
    finish_import(std::shared_ptr<state> owner, std::vector<found_image> found, import_options options);
    static asio::awaitable<std::vector<image>> import_stream(std::shared_ptr<state> owner, archive_stream source, import_options options);
    static asio::awaitable<std::vector<image>> import_file(std::shared_ptr<state> owner, archive_file source, import_options options);
    template <class Run>
    static asio::awaitable<std::vector<image>>
    finish_run(std::shared_ptr<state> owner, std::shared_ptr<Run> run, asio::awaitable<void> work);
    static asio::awaitable<image> compose(std::shared_ptr<state> owner, image_config config, std::optional<chain_id> top, import_options options);
    static asio::awaitable<std::vector<change>>
    changes_between(std::shared_ptr<state> owner, std::optional<chain_id> from, std::optional<chain_id> to)
        requires packable_storage<Storage>;
    static asio::awaitable<asset_stream> flatten_chain(std::shared_ptr<state> owner, std::optional<chain_id> top)
        requires packable_storage<Storage>;
    static asio::awaitable<image> squash_image(std::shared_ptr<state> owner, image from, import_options options)
        requires packable_storage<Storage>;
    template <class Run>
    static asio::awaitable<layer_type> finish_layer(std::shared_ptr<state> owner, std::shared_ptr<Run> run,
                                                    asio::awaitable<void> work);
    static asio::awaitable<std::vector<image>> import_all(std::shared_ptr<state> owner, any_importer source,
                                                          import_options options);
    static asio::awaitable<image> import_one(std::shared_ptr<state> owner, any_importer source,
                                             import_options options);
    static asio::awaitable<layer_type> import_tar(std::shared_ptr<state> owner, diff_id id,
                                                  std::function<std::shared_ptr<asset_stream::source>()> open,
                                                  std::optional<chain_id> parent);
    void require_diff(const diff_id& id) const;
    // nullopt if there is no such image; an error names the damaged file by its path.
    std::optional<image> load_image(const digest& id) const;
};

using repository = basic_repository<on_disk_storage, overlay_mount>;
/// Keeps layers as tars: they are never unpacked or mounted.
using virtual_repository = basic_repository<virtual_storage, no_mount>;
using image = repository::image;
using layer = repository::layer_type;
using mount = repository::mount;

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/repository.ipp>
#endif

#endif
