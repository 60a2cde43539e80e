#ifndef OVERMOUNT_STORAGE_STORAGE_POLICY_HPP
#define OVERMOUNT_STORAGE_STORAGE_POLICY_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/io/diff_reader.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/storage/diff_record.hpp>
#include <overmount/tar/entry.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// The directories that a repository gives to its storage: one for published diffs and one for staging, both on the same
/// file system. The repository owns the descriptors; they outlive the storage.
class storage_place
{
public:
    storage_place(int diffs, int staging, durability sync) : diffs_(diffs), staging_(staging), sync_(sync) {}
    /// The directory `diffs/`.
    [[nodiscard]] int diffs() const noexcept { return diffs_; }
    /// The directory `tmp/`.
    [[nodiscard]] int staging() const noexcept { return staging_; }
    [[nodiscard]] durability sync() const noexcept { return sync_; }

private:
    int diffs_, staging_;
    durability sync_;
};

/// The parameters of writing one diff.
class write_context
{
public:
    /// \param staging the operation's own staging directory, below `storage_place::staging`
    /// \param name    a unique name in it
    /// \param bounds  the limits for the layer
    write_context(int staging, std::string name, const limits& bounds)
        : staging_(staging), name_(std::move(name)), bounds_(bounds)
    {
    }
    [[nodiscard]] int staging() const noexcept { return staging_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const limits& bounds() const noexcept { return bounds_; }

private:
    int staging_;
    std::string name_;
    limits bounds_;
};

/// The directory of one diff, for the lower layers of an overlayfs mount.
struct lower_directory
{
    std::shared_ptr<const unique_fd> fd;
    std::string path; ///< relative to `storage_place::diffs`
};

/// Takes the bytes of one uncompressed layer tar, in pieces of any size, and stores the diff.
///
/// Guarantees:
/// - It is called by one worker thread at a time and blocks only on the disk. The size of the pieces makes no difference.
/// - `write` or `finish` throws `overmount::error` if the bytes are not a complete tar or exceed the limits. After an
///   error the writer can only be destroyed.
/// - `contains` does not see the diff before `publish`. A writer that is destroyed before `publish` leaves files only in
///   its staging directory.
/// - If several writers publish the same ID, even in several processes, exactly one gets true, and its diff is kept.
///   Another writer may publish the ID again after that diff was erased.
template <class Writer>
concept diff_writer = std::movable<Writer> && requires(Writer& writer, std::span<const std::byte> bytes,
                                                       const diff_id& id) {
    writer.write(bytes);
    { writer.finish() } -> std::same_as<diff_record>;      // the end of the tar
    { writer.publish(id) } -> std::same_as<bool>;          // one rename; false if the diff exists already
};

/// A writer that can defer part of its work to another worker thread.
///
/// Guarantees:
/// - `write_part` consumes bytes from the front of `bytes` and stores the deferred work for them in `work`, which must be
///   empty. It returns false if it has to be called again with the remaining bytes. The deferred work points into these
///   bytes. `write` does the same and runs all deferred work immediately.
/// - `run` may be called on another thread while the writer goes on. The caller runs the deferred work of one writer in the
///   order in which it was made, one piece at a time, while the writer exists, and all of it before `finish` and before the
///   next `write`. `run` throws what `write` would have thrown, and leaves the object empty. After an error, or if a piece is
///   dropped, the caller runs none of the later pieces and destroys the writer.
template <class Writer>
concept spreading_writer =
    diff_writer<Writer> && std::default_initializable<typename Writer::deferred> &&
    requires(Writer& writer, std::span<const std::byte>& bytes, typename Writer::deferred& work) {
        { writer.write_part(bytes, work) } -> std::same_as<bool>;
        work.run();
    };

/// A writer whose diff can replace an existing one that is not trusted any more.
///
/// Guarantees: `replace` is atomic. After it, every call with the ID uses the new diff; if the process is killed before, the old
/// diff is still in place. Readers and mounts of the old diff are not disturbed: `replace` neither changes nor removes its files.
/// If there is no old diff, `replace` does the same as `publish`. The result is as durable as that of `publish`.
template <class Writer>
concept replacing_writer = diff_writer<Writer> && requires(Writer& writer, const diff_id& id) {
    { writer.replace(id) } -> std::same_as<void>;
};

/// Stores diffs in some form and finds them by their ID.
///
/// Guarantees:
/// - A published diff is visible to every storage on the same directories, including those of other processes, until it is
///   erased.
/// - `record` returns what the writer's `finish` returned.
/// - With `durability::batch`, the repository syncs the file system before it publishes, and after publishing all diffs of the
///   operation syncs `diffs()` and the directories in it: `publish` need only rename. A storage that renames at deeper levels or
///   elsewhere syncs those directories itself. With `durability::full` the diff is durable when `publish` returns.
/// - `contains` is false for a diff that a power cut may have damaged, although `publish` may find it in place. The repository
///   then replaces it: with a `replacing_writer`, or else by `erase` and `publish`.
/// - `contains`, `record` and `create` may be called from any thread at the same time.
/// - `make_durable` makes a diff durable that was published without sync: first its content, then the note of it in its record,
///   then its name. If the record has the note already, only the name is synced. Each sync is checked for errors. `staging` is a
///   directory for temporary files; `poll` is called between files, and an exception from it ends the work.
/// - `erase` does nothing if the diff does not exist; an erased diff is invisible immediately.
/// - `form()` is a constant, and the `form` of all records.
template <class Storage>
concept storage_policy =
    std::constructible_from<Storage, storage_place> && diff_writer<typename Storage::writer> &&
    requires(Storage& storage, const Storage& constant, const diff_id& id, const write_context& context,
             int staging, const std::function<void()>& poll) {
        { storage.create(context) } -> std::same_as<typename Storage::writer>;
        { constant.contains(id) } -> std::same_as<bool>;
        { constant.record(id) } -> std::same_as<diff_record>; // throws errc::layer_not_found unless `contains`
        storage.erase(id);
        storage.make_durable(id, staging, poll); // throws errc::layer_not_found unless `contains`
        { Storage::form() } -> std::convertible_to<std::string_view>; // recorded in repository.json
    };

/// A storage that erases a diff in two steps, so that garbage collection need not hold the repository's lock while it removes
/// files.
///
/// Guarantees: `set_aside` hides the diff by renaming all of it to `name` in the directory `into`, which is on the same file
/// system; the caller removes it from there. It returns false if the diff does not exist. It also works for a diff that is not
/// trusted any more.
template <class Storage>
concept detaching_storage =
    storage_policy<Storage> && requires(Storage& storage, const diff_id& id, int into, const std::string& name) {
        { storage.set_aside(id, into, name) } -> std::same_as<bool>;
    };

/// Identifies the copy of a diff that was in place at one moment; it may be replaced later.
struct diff_version
{
    std::shared_ptr<const unique_fd> directory;
};

/// A storage that can mark a diff as damaged.
///
/// Guarantees:
/// - `contains` is false for a marked diff, so that the next import of it unpacks it again and replaces it. `record`, `lower`
///   and `pack` still work on the marked diff. The diff that replaces it has no mark.
/// - `mark_damaged` marks the copy that `version` identifies. If that copy was replaced meanwhile, the new one is not marked.
///   The mark is durable when the call returns, and so is its removal by `unmark_damaged`.
/// - All functions may be called from any thread at the same time.
template <class Storage>
concept markable_storage =
    storage_policy<Storage> && replacing_writer<typename Storage::writer> &&
    requires(const Storage& storage, const diff_id& id, const diff_version& version, int staging) {
        { storage.is_damaged(id) } -> std::same_as<bool>; // false if there is no such diff
        { storage.version(id) } -> std::same_as<diff_version>; // throws errc::layer_not_found
        { storage.is_current(id, version) } -> std::same_as<bool>;
        storage.mark_damaged(version, staging); // `staging` is a directory for temporary files
        storage.unmark_damaged(version);
    };

/// A storage whose diffs can be published before they are durable, so that another importer waiting for one gets it early.
///
/// Guarantees:
/// - `rewrite` replaces the diff's record; it is called after `finish` and before `publish`. It need not be durable.
/// - `identity` differs between a diff and the diff that replaces it.
/// - `mark_durable` records that a published diff is durable; the caller has already synced its content. It returns false, and
///   changes nothing, if the diff in place has another identity. The changed record is durable when the call returns.
template <class Storage>
concept early_storage =
    storage_policy<Storage> && requires(const Storage& storage, typename Storage::writer& writer, const diff_record& record,
                                        const diff_id& id, std::uint64_t identity, int staging) {
        writer.rewrite(record);
        { storage.identity(id) } -> std::same_as<std::uint64_t>; // 0 if there is no such diff
        { storage.mark_durable(id, identity, staging) } -> std::same_as<bool>;
    };

/// A storage whose diffs overlayfs can use as lower directories.
///
/// Guarantees: `lower` may be called from any thread, at the same time as all other functions. The directory that it returns
/// stays open when the diff is erased.
template <class Storage>
concept mountable_storage = storage_policy<Storage> && requires(const Storage& storage, const diff_id& id) {
    { storage.lower(id) } -> std::same_as<lower_directory>; // throws errc::layer_not_found
};

/// A storage that can reproduce the tar of a diff, byte for byte.
///
/// Guarantees: `pack` may be called from any thread, at the same time as all other functions.
template <class Storage>
concept packable_storage =
    storage_policy<Storage> && diff_reader<typename Storage::reader> &&
    requires(const Storage& storage, const diff_id& id) {
        { storage.pack(id) } -> std::same_as<typename Storage::reader>; // throws errc::layer_not_found
    };

/// The parameters of verifying one diff.
class verify_context
{
public:
    using listener = std::function<void(std::string_view path, std::string_view how)>;

    /// \param scratch a place for temporary files
    /// \param changed called for each damage with its path in the layer (empty for the whole layer) and a description
    /// \param poll    called between pieces; an exception from it ends the work
    verify_context(write_context scratch, listener changed, std::function<void()> poll)
        : scratch_(std::move(scratch)), changed_(std::move(changed)), poll_(std::move(poll))
    {
    }
    [[nodiscard]] const write_context& scratch() const noexcept { return scratch_; }
    void changed(std::string_view path, std::string_view how) const { changed_(path, how); }
    void poll() const { poll_(); }

private:
    write_context scratch_;
    listener changed_;
    std::function<void()> poll_;
};

/// A packable storage that can compare everything that it keeps of a diff, not only the bytes of its tar.
///
/// Guarantees: `verify` reads all stored data of the diff and reports each difference from what was written. If it cannot
/// compare, it throws the errors of `pack` and of reading. It may be called from any thread, at the same time as all other
/// functions. It removes its temporary files from the scratch place, unless it throws.
template <class Storage>
concept verifiable_storage =
    packable_storage<Storage> && requires(const Storage& storage, const diff_id& id, const verify_context& context) {
        { storage.verify(id, context) } -> std::same_as<void>;
    };

/// Lists the entries of one diff in the order of the tar, each with its offset. `next` returns false after the last one.
/// The segments of a sparse file may be left out.
template <class Reader>
concept entry_reader = std::movable<Reader> && requires(Reader& reader, tar::located_entry& into) {
    { reader.next(into) } -> std::same_as<bool>;
};

/// A packable storage that can list the entries and read one of them without reading the whole tar.
///
/// Guarantees: `entries` may be called from any thread, at the same time as all other functions. After `seek` a reader
/// returns the bytes from that offset on.
template <class Storage>
concept indexed_storage =
    packable_storage<Storage> && entry_reader<typename Storage::entry_reader> &&
    requires(const Storage& storage, const diff_id& id, typename Storage::reader& reader, std::uint64_t offset) {
        { storage.entries(id) } -> std::same_as<typename Storage::entry_reader>; // throws errc::layer_not_found
        reader.seek(offset);
    };

} // namespace overmount::OVERMOUNT_ABI

#endif
