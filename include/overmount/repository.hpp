#ifndef OVERMOUNT_REPOSITORY_HPP
#define OVERMOUNT_REPOSITORY_HPP

#include <overmount/asset.hpp>
#include <overmount/change.hpp>
#include <overmount/check.hpp>
#include <overmount/image.hpp>
#include <overmount/importer/any_importer.hpp>
#include <overmount/importer/archive.hpp>
#include <overmount/io/byte_stream.hpp>
#include <overmount/layer.hpp>
#include <overmount/mount/overlay_mount.hpp>
#include <overmount/repository/space.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// A directory that holds images: their layers, configs, tags and mounts.
///
/// A small handle: copies share the opened repository. Several processes may use one directory at the same
/// time. *Concurrency*: all members may be called from any thread; one object is not for two threads at once.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_repository : public basic_space<Storage, Mount>
{
    using basic_space<Storage, Mount>::state_;
    using basic_space<Storage, Mount>::sweep;
    using state = detail::repository_state<Storage>;
    using create_run = detail::create_run<Storage>;
#ifdef OVERMOUNT_SEPARATE_COMPILATION
    static_assert(detail::has_bodies<Storage, Mount>,
                  "with policies other than those of repository and virtual_repository, include <overmount/own_policies.hpp>");
#endif

public:
    using image = basic_image<Storage, Mount>;
    using mount = basic_mount<Storage, Mount>;
    using layer_type = basic_layer<Storage, Mount>; ///< `layer` looks one up

    /// Opens the repository at `base`, or makes one there. Leaves nothing running: what dead processes left is removed by
    /// the next operation that writes.
    ///
    /// *Errors*: `not_a_repository`, `unsupported_repository`, `repository_open_to_others`, errno values.
    /// *Cancellation*: any; nothing is left but perhaps an empty repository.
    [[nodiscard]] static asio::awaitable<basic_repository>
    open(std::filesystem::path base, repository_options options = repository_options())
    {
        return open_at(std::move(base), std::move(options));
    }

    /// Imports all images that `source` offers.
    ///
    /// *Returns*: the images, in the source's order. *Errors*: those of the source; of a layer, with its diff
    /// ID and the entry; errno values such as ENOSPC. The repository then shows nothing of the import that is
    /// not complete; layers that were finished by an earlier round may stay. *Cancellation*: any; staging is
    /// removed before the operation completes.
    template <importer Importer>
    [[nodiscard]] asio::awaitable<std::vector<image>>
    import_images(Importer source, import_options options = import_options()) const
    {
        return import_all(state_, detail::any_importer(std::move(source)), std::move(options));
    }

    /// The same for an archive that comes as a stream. Its executor's context must run.
    ///
    /// *Errors*: also what the stream reports.
    [[nodiscard]] asio::awaitable<std::vector<image>>
    import_images(archive_stream source, import_options options = import_options()) const
    {
        return import_stream(state_, std::move(source), std::move(options));
    }
    /// The same for an archive that is compressed as a whole.
    [[nodiscard]] asio::awaitable<std::vector<image>>
    import_images(archive_file source, import_options options = import_options()) const
    {
        return import_file(state_, std::move(source), std::move(options));
    }

    /// The same for a source that offers one image; `ambiguous_image` where there are several.
    template <importer Importer>
    [[nodiscard]] asio::awaitable<image> import_image(Importer source,
                                                      import_options options = import_options()) const
    {
        return import_one(state_, detail::any_importer(std::move(source)), std::move(options));
    }

    /// Writes images to one place: their configs byte for byte, their layers with the same diff IDs, each layer once.
    ///
    /// *Errors*: `layer_not_found`; `invalid_asset` and those of the storage for a damaged layer; `invalid_reference`
    /// for a name; those of the target. Nothing is left there then. *Cancellation*: any; likewise.
    template <exporter Exporter>
    [[nodiscard]] asio::awaitable<void> export_images(const std::vector<image>& images, Exporter target,
                                                      export_options options = export_options()) const
        requires packable_storage<Storage>
    {
        return detail::export_all(state_, image::configs_of(images), detail::any_exporter(std::move(target)),
                                  std::move(options));
    }

    /// All images, by ID.
    ///
    /// \param damaged hears of each record that cannot be read, with its path in the repository; the others are listed
    [[nodiscard]] std::vector<image> images(const std::function<void(const error&)>& damaged = {}) const;

    /// The image that a tag names, else the one of an ID or of the beginning of its hex digits, at least four.
    ///
    /// *Errors*: `image_not_found`, `ambiguous_image_id`.
    [[nodiscard]] image find_image(std::string_view name) const;

    /// Removes an image and its tags; its layers stay until they are collected.
    ///
    /// *Errors*: `image_in_use` while it is mounted, or an upper of it is kept that could be committed; `image_not_found`;
    /// `repository_busy`. *Cancellation*: any, until it has begun to remove.
    [[nodiscard]] asio::awaitable<void> remove_image(digest id) const { return remove_one(state_, std::move(id)); }

    /// All tags, by name. \param damaged as with `images`
    [[nodiscard]] std::vector<tag_record> tags(const std::function<void(const error&)>& damaged = {}) const;
    /// *Errors*: `tag_does_not_exist`, `invalid_reference`.
    [[nodiscard]] tag_record tag(std::string_view name) const;
    /// Points `name` to an image, wherever it pointed before.
    ///
    /// *Errors*: `invalid_reference`, `image_not_found`, `layer_not_found`, `repository_busy`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> add_tag(std::string name, digest id) const
    {
        return tag_image(state_, std::move(name), std::move(id));
    }
    /// *Errors*: `tag_does_not_exist`, `invalid_reference`, `repository_busy`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> remove_tag(std::string name) const { return untag(state_, std::move(name)); }

    /// Makes a layer on top of `parent` from the tar `file`, plain or compressed with gzip or zstd. It
    /// belongs to no image yet.
    ///
    /// *Parameters*: a regular file, read by offset; nothing for the lowest layer of a chain.
    /// *Returns*: the layer, also when it was there before. *Errors*: `layer_not_found` for the
    /// parent; those of a tar and its compression, with the entry; errno values. Nothing is left then.
    /// *Cancellation*: as with `import_images`.
    [[nodiscard]] asio::awaitable<layer_type> create_layer(std::filesystem::path file,
                                                           std::optional<chain_id> parent = std::nullopt) const;

    /// The same from a stream of bytes, such as a pipe or a socket, to its end. Holds a piece of it at a
    /// time.
    ///
    /// *Lifetimes*: the operation owns the stream. *Errors*: also what the stream reports; its executor's
    /// context must run.
    [[nodiscard]] asio::awaitable<layer_type> create_layer(byte_stream stream,
                                                           std::optional<chain_id> parent = std::nullopt) const;
    template <async_read_stream Stream>
    [[nodiscard]] asio::awaitable<layer_type> create_layer(Stream stream,
                                                           std::optional<chain_id> parent = std::nullopt) const
    {
        return create_layer(byte_stream(std::move(stream)), std::move(parent));
    }

    /// Makes an image of a config and of layers that are there.
    ///
    /// \param config  as it is where it names layers; otherwise it gets those of the chain
    /// \param top     the image's topmost layer; without it the config says which layers
    /// \param options the tags of the image
    /// *Errors*: `image_cannot_be_composed` where config and chain do not fit each other; `layer_not_found`;
    /// `invalid_reference` for a tag; `repository_busy`. Nothing is made then. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<image> create_image(image_config config, std::optional<chain_id> top = std::nullopt,
                                                      import_options options = import_options()) const
    {
        return compose(state_, std::move(config), std::move(top), std::move(options));
    }

    /// At which paths two stacks of layers show something else, in the order of the paths' bytes. What comes from the
    /// same entry of the same diff is equal; else type, mode, owner, size, time, link target, device and xattrs are
    /// compared, and where those agree the data. A directory differs only by what it has itself.
    ///
    /// \param from a topmost layer; without it there are none
    /// *Errors*: `layer_not_found`; `too_many_entries` for a view beyond the limits; those of the storage.
    /// *Cancellation*: any.
    [[nodiscard]] asio::awaitable<std::vector<change>> diff(std::optional<chain_id> from, std::optional<chain_id> to) const
        requires packable_storage<Storage>
    {
        return changes_between(state_, std::move(from), std::move(to));
    }
    /// The same for what two images show.
    [[nodiscard]] asio::awaitable<std::vector<change>> diff(const image& from, const image& to) const
        requires packable_storage<Storage>
    {
        return diff(from.top(), to.top());
    }
    /// One tar of what a stack of layers shows: no whiteouts, in the order of the paths' bytes, the same layers give
    /// the same bytes. Of hard links the first name has the data; sparse files come with their zeros.
    ///
    /// \param top the topmost layer; without it there are none
    /// *Returns*: the tar; its size is known. *Errors*: as with `diff`; of a file that is not as it was unpacked,
    /// `diff_changed`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<asset_stream> flatten(std::optional<chain_id> top) const
        requires packable_storage<Storage>
    {
        return flatten_chain(state_, std::move(top));
    }
    [[nodiscard]] asio::awaitable<asset_stream> flatten(const image& from) const
        requires packable_storage<Storage>
    {
        return flatten(from.top());
    }
    /// Makes an image of one layer that shows the same: its config is the other's, with one step of history.
    ///
    /// \param options the tags of the new image
    /// *Errors*: those of `flatten` and of `create_layer`. *Cancellation*: as with `create_layer`; a layer that was
    /// finished may stay.
    [[nodiscard]] asio::awaitable<image> squash(image from, import_options options = import_options()) const
        requires packable_storage<Storage>
    {
        return squash_image(state_, std::move(from), std::move(options));
    }

    /// All layers, by chain ID.
    ///
    /// \param damaged as with `images`
    [[nodiscard]] std::vector<layer_type> layers(const std::function<void(const error&)>& damaged = {}) const;
    /// *Errors*: `layer_not_found`, `corrupt_repository`.
    [[nodiscard]] layer_type layer(const chain_id& chain) const { return layer_type::load(state_, chain); }
    /// The layer that a chain ID, or the beginning of its hex digits, at least four, names.
    ///
    /// *Errors*: `layer_not_found`, `ambiguous_layer_id`, `corrupt_repository`.
    [[nodiscard]] layer_type find_layer(std::string_view name) const;
    /// Whether there is a layer of that chain ID. *Errors*: `corrupt_repository` for its record.
    [[nodiscard]] bool contains(const chain_id& chain) const;
    /// Whether the content of that diff is there and is believed: not so where a check found it damaged, or a power cut may
    /// have damaged it. *Errors*: `corrupt_repository`.
    [[nodiscard]] bool contains(const diff_id& id) const;
    [[nodiscard]] diff_record diff(const diff_id& id) const;
    /// What is kept of a diff, to list and read it.
    ///
    /// *Errors*: `layer_not_found`.
    [[nodiscard]] auto asset(const diff_id& id) const
        requires packable_storage<Storage>
    {
        require_diff(id);
        return basic_asset<Storage>(state_, id);
    }
    /// Makes a layer on top of `parent` of a diff that a repository with any other storage keeps. The two keep it
    /// each in their form.
    ///
    /// *Returns*: the layer, also when it was there before. *Errors*: `layer_not_found` for the
    /// parent and the diff; `diff_id_mismatch` where the other repository is damaged; those of a tar.
    /// *Cancellation*: as with `import_images`.
    template <packable_storage Other>
    [[nodiscard]] asio::awaitable<layer_type>
    import_asset(basic_asset<Other> source, std::optional<chain_id> parent = std::nullopt) const
    {
        return import_tar(state_, source.id(), source.opener(), std::move(parent));
    }

    /// All mounts that are recorded, those of other processes and of earlier boots as well. \param damaged as with `images`
    [[nodiscard]] std::vector<mount_record> mounts(const std::function<void(const error&)>& damaged = {}) const;
    /// The recorded mounts that a name means: the one that is mounted at a directory, else those that were; else the one
    /// whose ID begins with it (4 digits at least).
    ///
    /// *Returns*: none where it means none.
    [[nodiscard]] std::vector<mount_record> find_mounts(const std::string& name) const
        requires mount_policy<Mount>;
    /// Whether a recorded mount exists. See docs/design/mounts.md.
    ///
    /// *Cancellation*: before it has begun.
    [[nodiscard]] asio::awaitable<mount_state> state_of(mount_record record) const
        requires mount_policy<Mount>
    {
        return mount::state_of(state_, std::move(record));
    }
    /// Mounts a writable mount that is stopped, with what was written in it, at the same target or at that of the options.
    ///
    /// *Errors*: `mount_exists` where it is alive, or a mount of a repository is at the target; `mount_not_durable` where
    /// the machine went down while it was volatile, unless the options accept that; `mount_read_only`; `mount_not_found`;
    /// those of `basic_image::mount`. It is then as it was. *Cancellation*: before the kernel is called; where nobody is
    /// left to take the mount it is stopped again.
    [[nodiscard]] asio::awaitable<mount> mount_again(mount_record record, mount_options options = mount_options()) const
        requires mountable_storage<Storage> && mount_policy<Mount>
    {
        return mount::mount_again(state_, std::move(record.id), std::move(options));
    }
    /// Unmounts a recorded mount, whoever made it, and removes what was written in it; removes one that is stopped. See
    /// `basic_mount::unmount`.
    [[nodiscard]] asio::awaitable<void> unmount(mount_record record) const
        requires mount_policy<Mount>
    {
        return mount::unmount_record(state_, std::move(record));
    }

    /// Makes an image of what was written in a recorded mount, whoever made it; also of one that is stopped. See
    /// `basic_mount::commit`.
    ///
    /// *Errors*: also `mount_not_durable` where the machine went down while it was volatile, unless the options accept that.
    [[nodiscard]] asio::awaitable<image> commit(mount_record record, commit_options options = commit_options()) const
        requires mount_policy<Mount>
    {
        return mount::commit_record(state_, std::move(record), std::move(options));
    }

    /// Compares all that the repository keeps with its digests: configs, manifests, blobs, the chains of layers, what
    /// they refer to, and each diff. One that was unpacked is compared with its recipe, in data and in all else. Of a
    /// storage that does not give tars back, records alone are checked.
    ///
    /// A diff that is found damaged is marked, unless the repository can only be read: to mount or export it is `diff_damaged`
    /// from then on, and whoever imports it unpacks it again. One that is marked and whole by now is believed again.
    ///
    /// A damage does not end the check: the report has all of them. What dead processes left is none, nor is what is
    /// made or removed at the same time. Reads two diffs at a time; the tree of one is made again below `tmp/`, without
    /// data.
    ///
    /// *Returns*: what was checked, and what was found. *Errors*: only where the repository cannot be read at all:
    /// errno values such as EMFILE and ENOSPC. *Cancellation*: any; nothing is left.
    [[nodiscard]] asio::awaitable<check_report> check(check_options options = check_options()) const
    {
        return check_all(state_, std::move(options));
    }

    /// Checks the repository and makes again what is damaged, of what it keeps: diffs and documents of kept blobs, records of
    /// layers of the configs of images. Nothing is changed in its place: a mount goes on reading what it was given.
    ///
    /// *Returns*: what is left of the findings, each with the reason why it could not be mended, and what was mended. *Errors*:
    /// as with `check`; errno values such as EROFS; `repository_busy`. *Cancellation*: any; a diff is then the old one or the
    /// new.
    [[nodiscard]] asio::awaitable<check_report> repair() const { return repair_from(state_, std::nullopt, repair_options()); }
    /// The same, also of images that a source offers. None of them is imported.
    ///
    /// *Errors*: also those of the source.
    template <importer Importer>
    [[nodiscard]] asio::awaitable<check_report> repair(Importer source, repair_options options = repair_options()) const
    {
        return repair_from(state_, detail::any_importer(std::move(source)), std::move(options));
    }

    [[nodiscard]] const std::filesystem::path& base() const noexcept;
    [[nodiscard]] const limits& bounds() const noexcept;

private:
    explicit basic_repository(std::shared_ptr<state> opened) : basic_space<Storage, Mount>(std::move(opened)) {}

    static asio::awaitable<void> remove_one(std::shared_ptr<state> owner, digest id);
    static asio::awaitable<void> tag_image(std::shared_ptr<state> owner, std::string name, digest id);
    static asio::awaitable<void> untag(std::shared_ptr<state> owner, std::string name);
    static asio::awaitable<basic_repository> open_at(std::filesystem::path base, repository_options options);
    static asio::awaitable<std::vector<image>>
    finish_import(std::shared_ptr<state> owner, std::vector<found_image> found, import_options options);
    static asio::awaitable<std::vector<image>> import_stream(std::shared_ptr<state> owner,
                                                             archive_stream source, import_options options);
    static asio::awaitable<std::vector<image>> import_file(std::shared_ptr<state> owner, archive_file source,
                                                           import_options options);
    template <class Run>
    static asio::awaitable<std::vector<image>>
    finish_run(std::shared_ptr<state> owner, std::shared_ptr<Run> run, asio::awaitable<void> work);
    static asio::awaitable<image> compose(std::shared_ptr<state> owner, image_config config, std::optional<chain_id> top,
                                          import_options options);
    static asio::awaitable<std::vector<change>>
    changes_between(std::shared_ptr<state> owner, std::optional<chain_id> from, std::optional<chain_id> to)
        requires packable_storage<Storage>;
    static asio::awaitable<asset_stream> flatten_chain(std::shared_ptr<state> owner, std::optional<chain_id> top)
        requires packable_storage<Storage>;
    static asio::awaitable<image> squash_image(std::shared_ptr<state> owner, image from, import_options options)
        requires packable_storage<Storage>;
    static asio::awaitable<layer_type> finish_layer(std::shared_ptr<state> owner, std::shared_ptr<create_run> run,
                                                    asio::awaitable<void> work);
    static asio::awaitable<check_report> check_all(std::shared_ptr<state> owner, check_options options);
    static asio::awaitable<check_report> repair_from(std::shared_ptr<state> owner, std::optional<detail::any_importer> source,
                                                     repair_options options);
    static asio::awaitable<std::vector<image>> import_all(std::shared_ptr<state> owner, detail::any_importer source,
                                                          import_options options);
    static asio::awaitable<image> import_one(std::shared_ptr<state> owner, detail::any_importer source,
                                             import_options options);
    static asio::awaitable<layer_type> import_tar(std::shared_ptr<state> owner, diff_id id,
                                                  std::function<std::shared_ptr<asset_stream::source>()> open,
                                                  std::optional<chain_id> parent);
    void require_diff(const diff_id& id) const;
    // Nothing where there is none; a damage is named by its path.
    std::optional<image> load_image(const digest& id) const;
};

using repository = basic_repository<on_disk_storage, overlay_mount>;
/// Keeps layers as tars: nothing of it is ever unpacked or mounted.
using virtual_repository = basic_repository<virtual_storage, no_mount>;
using image = repository::image;
using layer = repository::layer_type;
using mount = repository::mount;

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/repository.ipp>
#endif

#endif
