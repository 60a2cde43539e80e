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

namespace overmount::inline OVERMOUNT_ABI {

/// The place that a repository gives its storage: a directory for the diffs and one for what is being made, both
/// on one file system. Descriptors are the repository's; they outlive the storage.
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

/// What one diff is written with.
class write_context
{
public:
    /// \param staging a directory of the import's own below the place's staging
    /// \param name    a name in it that nobody else uses
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

/// One directory that a mount stacks.
struct lower_directory
{
    std::shared_ptr<const unique_fd> fd;
    std::string path; ///< where it is below the place's `diffs()`
};

/// Eats the bytes of one uncompressed layer tar, in pieces of any size.
///
/// Guarantees:
/// - Called by one worker at a time; never blocks on anything but the disk. How the bytes are cut into pieces makes
///   no difference.
/// - What is no whole tar, or breaks the bounds, is refused by `write` or `finish` with `overmount::error`; the
///   writer is then only destroyed.
/// - Nothing is visible to `contains` before `publish`. A writer that is destroyed without leaves nothing behind but
///   below its staging directory.
/// - Of several writers that publish one ID, also in several processes, one gets true, and its diff stays. Another
///   may publish once more when that diff is erased.
template <class Writer>
concept diff_writer = std::movable<Writer> && requires(Writer& writer, std::span<const std::byte> bytes,
                                                       const diff_id& id) {
    writer.write(bytes);
    { writer.finish() } -> std::same_as<diff_record>;      // the end of the tar
    { writer.publish(id) } -> std::same_as<bool>;          // one rename; false when the diff was there already
};

/// A writer that leaves to another worker what can be done beside its own work.
///
/// Guarantees:
/// - `write_part` takes bytes from the front of `bytes`, and puts into the rest, which was empty, what is left to do for
///   them; false where it is to be called again with what is left of them. The rest points into these bytes. `write` is
///   the same with each rest run at once.
/// - `run` may be called by another worker, while the writer goes on. The rests of a writer are run one after the other, in
///   the order in which they were made, while the writer lives; all are run before `finish`, and before the next `write`.
///   It throws what the writer would have thrown, and leaves the rest empty. After that, or when one is dropped, none of
///   the later ones is run, and the writer is only destroyed.
template <class Writer>
concept spreading_writer =
    diff_writer<Writer> && std::default_initializable<typename Writer::rest> &&
    requires(Writer& writer, std::span<const std::byte>& bytes, typename Writer::rest& rest) {
        { writer.write_part(bytes, rest) } -> std::same_as<bool>;
        rest.run();
    };

/// A writer whose diff can take the place of one that is there and not believed any more.
///
/// Guarantees: `replace` is one change, after which all that is asked of the ID is asked of the new diff; when the process is
/// killed before it, the old one is there. Who reads the old one, or mounts it, goes on doing so: nothing of it is changed or
/// removed. Where none is there by then it does what `publish` does. It lasts as what `publish` shows.
template <class Writer>
concept replacing_writer = diff_writer<Writer> && requires(Writer& writer, const diff_id& id) {
    { writer.replace(id) } -> std::same_as<void>;
};

/// What is kept of a diff, and how it is written and found again.
///
/// Guarantees:
/// - What is published is there for every storage at the same place, also of other processes, until it is erased.
/// - `record` gives what the writer's `finish` gave.
/// - With `durability::batch`, the repository syncs the file system before it publishes and then, once for all that it
///   published, `diffs()` and the directories in it: `publish` need only rename. What a storage keeps deeper or elsewhere
///   it syncs itself. With `durability::full` all that is published lasts when `publish` returns.
/// - A diff that a power cut may have damaged is not contained, though `publish` may find it there. It is then replaced, by
///   a `replacing_writer`, else by `erase` and `publish`.
/// - `contains`, `record` and `create` may be called from any thread at the same time.
/// - `make_durable` makes a diff last that was published without being synced: its bytes first, then the note in its record
///   that they are, then its name; of one that is noted, the name alone. Each is checked. `staging` is a directory for what it
///   makes; `poll` is called between files, and what it throws ends the work.
/// - `erase` of a diff that is not there does nothing; an erased diff is gone at once.
/// - `form()` is always the same, and is the `form` of all records.
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
        { Storage::form() } -> std::convertible_to<std::string_view>; // noted in repository.json
    };

/// A storage that erases a diff in two steps, so that a collection need not hold the repository's lock while files are removed.
///
/// Guarantees: `set_aside` takes all that is kept of the diff out of sight by one rename, to `name` in the directory `into`, which
/// is on the same file system; whoever called it removes that. False where the diff is not there. A diff that is not believed
/// is set aside like any other.
template <class Storage>
concept detaching_storage =
    storage_policy<Storage> && requires(Storage& storage, const diff_id& id, int into, const std::string& name) {
        { storage.set_aside(id, into, name) } -> std::same_as<bool>;
    };

/// What was kept of a diff at one time: another one may take its place.
struct diff_version
{
    std::shared_ptr<const unique_fd> directory;
};

/// A storage that notes of a diff that it was found damaged.
///
/// Guarantees:
/// - A diff that is marked is not contained, so that the next who has it unpacks it again, and replaces it. All else goes on:
///   `record`, `lower` and `pack` give what is there. In the diff that replaces it there is no mark.
/// - `mark_damaged` marks what was there when the version was taken, also where another one has taken its place: that one is
///   not marked then. A mark lasts when it is made; `unmark_damaged` likewise.
/// - All may be called from any thread, with the others.
template <class Storage>
concept markable_storage =
    storage_policy<Storage> && replacing_writer<typename Storage::writer> &&
    requires(const Storage& storage, const diff_id& id, const diff_version& version, int staging) {
        { storage.is_damaged(id) } -> std::same_as<bool>; // false where there is none
        { storage.version(id) } -> std::same_as<diff_version>; // throws errc::layer_not_found
        { storage.is_current(id, version) } -> std::same_as<bool>;
        storage.mark_damaged(version, staging); // a directory for what it makes
        storage.unmark_damaged(version);
    };

/// A storage whose diffs can be shown before they last, so that whoever waits for one has it early.
///
/// Guarantees:
/// - `rewrite`, of a writer that has finished, makes `record` what the diff's record says; it need not last.
/// - `identity` tells what is kept of a diff now from what takes its place.
/// - `mark_durable` notes in the record of a published diff that it lasts; the caller has made its bytes last. False where it is
///   not the one of that identity, and nothing was noted. The note lasts when it is made.
template <class Storage>
concept early_storage =
    storage_policy<Storage> && requires(const Storage& storage, typename Storage::writer& writer, const diff_record& record,
                                        const diff_id& id, std::uint64_t identity, int staging) {
        writer.rewrite(record);
        { storage.identity(id) } -> std::same_as<std::uint64_t>; // 0 where there is none
        { storage.mark_durable(id, identity, staging) } -> std::same_as<bool>;
    };

/// A storage whose diffs overlayfs can stack.
///
/// Guarantees: `lower` may be called from any thread, with the others; its directory stays open when the diff is
/// erased.
template <class Storage>
concept mountable_storage = storage_policy<Storage> && requires(const Storage& storage, const diff_id& id) {
    { storage.lower(id) } -> std::same_as<lower_directory>; // throws errc::layer_not_found
};

/// A storage that gives the tar of a diff back, byte for byte.
///
/// Guarantees: `pack` may be called from any thread, with the others.
template <class Storage>
concept packable_storage =
    storage_policy<Storage> && diff_reader<typename Storage::reader> &&
    requires(const Storage& storage, const diff_id& id) {
        { storage.pack(id) } -> std::same_as<typename Storage::reader>; // throws errc::layer_not_found
    };

/// What a diff is verified with.
class verify_context
{
public:
    using listener = std::function<void(std::string_view path, std::string_view how)>;

    /// \param scratch where something may be made for the time being
    /// \param changed hears of each damage: where it is in the layer, empty for the whole, and what it is
    /// \param poll    is called between pieces; what it throws ends the work
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

/// A packable storage that keeps more of a diff than the bytes of its tar, and compares that as well.
///
/// Guarantees: `verify` reads all that is kept of the diff and tells each place that is not as it was written. Throws
/// as `pack` and reading do where it cannot be compared. It may be called from any thread, with the others. What it
/// makes in the scratch it removes again, unless it throws.
template <class Storage>
concept verifiable_storage =
    packable_storage<Storage> && requires(const Storage& storage, const diff_id& id, const verify_context& context) {
        { storage.verify(id, context) } -> std::same_as<void>;
    };

/// Gives the entries of one diff in the tar's order, each with its place; false behind the last one. Of a sparse
/// file it may leave out the segments.
template <class Reader>
concept entry_reader = std::movable<Reader> && requires(Reader& reader, tar::located_entry& into) {
    { reader.next(into) } -> std::same_as<bool>;
};

/// A packable storage that lists entries and gets at one of them without reading the whole tar.
///
/// Guarantees: `entries` may be called from any thread, with the others. A reader that has sought a place gives the
/// bytes from there on.
template <class Storage>
concept indexed_storage =
    packable_storage<Storage> && entry_reader<typename Storage::entry_reader> &&
    requires(const Storage& storage, const diff_id& id, typename Storage::reader& reader, std::uint64_t offset) {
        { storage.entries(id) } -> std::same_as<typename Storage::entry_reader>; // throws errc::layer_not_found
        reader.seek(offset);
    };

} // namespace overmount::inline OVERMOUNT_ABI

#endif
