#ifndef OVERMOUNT_REPOSITORY_RECORDS_MOUNT_TABLE_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_MOUNT_TABLE_HPP

#include <overmount/mount/correction.hpp>
#include <overmount/mount/mount_policy.hpp>
#include <overmount/mount/mount_spec.hpp>
#include <overmount/repository/records/records.hpp>
#include <overmount/repository/records/store.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

namespace detail {

// Whether a mount may exist, according to a mount policy.
using alive_test = std::function<bool(const mount_identity&, const mount_spec&)>;

// The test of a mount policy. Without a mount policy every mount counts as alive.
template <class Mount>
[[nodiscard]] alive_test alive_by()
{
    if constexpr (mount_policy<Mount>)
        return [](const mount_identity& identity, const mount_spec& probe) -> bool { return Mount::alive(identity, probe); };
    else
        return [](const mount_identity&, const mount_spec&) { return true; };
}

// The absolute path of a mount point, with symbolic links resolved in all but its last component.
OVERMOUNT_LAZY [[nodiscard]] std::string resolved_target(const std::string& target);

// Takes the flock of an open directory, for the lifetime of the descriptor; nullopt if another process holds it. It is a flock
// because exclusive open-file-description locks need a descriptor open for writing, which a directory cannot have.
OVERMOUNT_LAZY [[nodiscard]] std::optional<unique_fd> try_lock_directory(unique_fd directory);
// The same for a mount point. Locks nothing if the directory cannot be opened or its file system has no such locks.
OVERMOUNT_LAZY [[nodiscard]] std::optional<unique_fd> try_lock_target(const std::string& target);

// The directories of a stack, as a mount record names them.
OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> directory_names(const std::vector<stacked_layer>& stack);

// The mounts of a repository, on disk: `mounts/<id>/` with record.json, target/, upper/ and work/.
//
// A record is written before its mount is made, and then gets the mount's identity. The caller of `add` holds the shared lock
// until both exist. An operation that mounts a recorded mount again, or removes its upper directory, holds the record's lock.
class mount_table
{
public:
    explicit mount_table(std::shared_ptr<store> owner) : store_(std::move(owner)) {}

    // Creates a record and its directories. `target` is a resolved path, or empty for a mount point inside the repository.
    OVERMOUNT_LAZY [[nodiscard]] mount_record add(const mount_subject& of, const std::string& target, bool writable,
                                                  std::vector<std::string> lowers, durability sync);
    // Called before a mount is made again: replaces the identity of the previous mount by the boot and the mount namespace.
    OVERMOUNT_LAZY void begin(mount_record& record, durability sync);
    OVERMOUNT_LAZY void update(const mount_record& record, durability sync);
    // Moves the record and its directories to the staging area, and returns the name there, for `erase`; empty if the record no
    // longer exists.
    OVERMOUNT_LAZY [[nodiscard]] std::string discard(const mount_record& record);
    OVERMOUNT_LAZY void erase(const std::string& discarded);
    OVERMOUNT_LAZY void remove(const mount_record& record) { erase(discard(record)); }
    // Takes the record's lock; nullopt if another process holds it. Throws `mount_not_found` if there is no record.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<unique_fd> try_lock(const mount_record& record) const;

    OVERMOUNT_LAZY [[nodiscard]] std::optional<mount_record> find(const std::string& id) const;
    // The readable records. The errors of damaged ones, with their paths in the repository, are added to `damaged`.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<mount_record> list(std::vector<error>* damaged = nullptr) const;
    OVERMOUNT_LAZY [[nodiscard]] mount_state state(const mount_record& record, const alive_test& alive) const;
    // Whether any overlay may still use the upper directory, even if the recorded mount itself is gone.
    OVERMOUNT_LAZY [[nodiscard]] bool uses_upper(const mount_record& record, const alive_test& alive) const;
    // The first mount that needs the image: one that is alive, or whose upper directory is kept. Throws `corrupt_repository` if a
    // record cannot be read: it may name the image.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<mount_record> in_use(const digest& image, const alive_test& alive) const;
    // Removes the records of stopped read-only mounts. Stopped writable mounts stay, with their upper directories.
    OVERMOUNT_LAZY void sweep(const alive_test& alive) noexcept;

    // Whether the machine has gone down since a volatile mount was made.
    OVERMOUNT_LAZY [[nodiscard]] static bool may_be_incomplete(const mount_record& record);
    // Prepares a stopped mount for being mounted again: makes its upper directory durable if `sync`, and removes the mark that a
    // volatile mount leaves, because of which the kernel would refuse the work directory.
    OVERMOUNT_LAZY void prepare_again(const mount_record& record, bool sync);
    // Gives the upper directory of a new mount the attributes of the root below it: the mount's root takes them from the upper one.
    OVERMOUNT_LAZY void prepare_upper(const mount_record& record, const std::optional<chain_id>& top,
                                      const std::vector<stacked_layer>& stack);

    // Throws `too_many_layers` if the stack has more directories than a mount can have.
    OVERMOUNT_LAZY void require_stackable(const std::optional<chain_id>& top, const std::vector<stacked_layer>& stack);
    // The mount spec for a stack of layers, topmost first; the stack must outlive it. Creates the chain's correction if it does not
    // exist yet. Without layers the root is empty.
    OVERMOUNT_LAZY [[nodiscard]] mount_spec spec_of(const mount_record& record, const std::optional<chain_id>& top,
                                                    const std::vector<stacked_layer>& stack);
    // The directory whose attributes the root of a read-only mount has.
    OVERMOUNT_LAZY [[nodiscard]] unique_fd root_below(const mount_record& record, const std::optional<chain_id>& top,
                                                      const std::vector<stacked_layer>& stack);
    // Whether the chain has a valid note, which says that its correction was made or is not needed; false if the chain does not
    // exist.
    OVERMOUNT_LAZY [[nodiscard]] bool has_correction_note(const chain_id& top) const;
    // Creates the chain's correction, `layers/<chain>/correction-<boot>`, unless it is noted; returns whether the chain needs one.
    OVERMOUNT_LAZY bool ensure_correction(const chain_id& top, const std::vector<stacked_layer>& stack);
    // Writes a correction that was computed before, and its note. There is no note yet.
    OVERMOUNT_LAZY void write_correction(const chain_id& top, correction& wanted, int staging);
    // Whether the chain's note is wrong, so that a mount would lack a correction that the chain needs. A correction without a note
    // is not lost: the next mount makes it.
    OVERMOUNT_LAZY [[nodiscard]] bool lost_correction(const chain_id& top, const std::vector<stacked_layer>& stack) const;

    // Removes the correction notes of all chains with one of these diffs, so that the next mount of each makes its correction again.
    // Existing mounts keep their old directories: those are renamed to `correction-<boot>.<n>`, and removed with the layer or in a
    // later boot.
    OVERMOUNT_LAZY void forget_corrections(const std::set<diff_id>& diffs) const;

    // Makes the correction of one chain again at once.
    OVERMOUNT_LAZY void remake_correction(const chain_id& top, const std::vector<stacked_layer>& stack);

private:
    OVERMOUNT_LAZY [[nodiscard]] bool test_alive(const mount_record& record, const mount_identity& identity, const alive_test& alive) const;

    std::shared_ptr<store> store_;
};

} // namespace detail
} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/mount_table.ipp>
#endif

#endif
