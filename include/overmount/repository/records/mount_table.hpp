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

namespace overmount::inline OVERMOUNT_ABI {

namespace detail {

// Whether a mount may exist, as a mount policy tells.
using alive_test = std::function<bool(const mount_identity&, const mount_spec&)>;

// What cannot be asked is alive.
template <class Mount>
[[nodiscard]] alive_test alive_by()
{
    if constexpr (mount_policy<Mount>)
        return [](const mount_identity& identity, const mount_spec& probe) -> bool { return Mount::alive(identity, probe); };
    else
        return [](const mount_identity&, const mount_spec&) { return true; };
}

// The path of a directory to mount at: absolute, with links resolved in all but its last part.
OVERMOUNT_LAZY [[nodiscard]] std::string resolved_target(const std::string& target);

// The flock of an open directory, as long as the descriptor lives; nullopt where another holds it. Directories cannot be
// opened for writing, which exclusive open-file-description locks ask for.
OVERMOUNT_LAZY [[nodiscard]] std::optional<unique_fd> try_lock_directory(unique_fd directory);
// The same of a directory to mount at. Where its file system has no such locks, nothing is locked.
OVERMOUNT_LAZY [[nodiscard]] std::optional<unique_fd> try_lock_target(const std::string& target);

// What is stacked, as a record names it.
OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> directory_names(const std::vector<stacked_layer>& stack);

// The mounts of a repository, on disk: `mounts/<id>/` with record.json, target/, upper/ and work/.
//
// A record is there before its mount is, then gets the mount's identity. The caller of `add` holds the shared lock until
// both are there. Who mounts a recorded mount again, or removes its upper, holds the record's lock.
class mount_table
{
public:
    explicit mount_table(std::shared_ptr<store> owner) : store_(std::move(owner)) {}

    // Makes a record and its directories. `target` is a resolved path, or empty for one of the repository's own.
    OVERMOUNT_LAZY [[nodiscard]] mount_record add(const mount_subject& of, const std::string& target, bool writable,
                                                  std::vector<std::string> lowers, durability sync);
    // Before a mount is made again: what is not known of it yet is forgotten of the one before.
    OVERMOUNT_LAZY void begin(mount_record& record, durability sync);
    OVERMOUNT_LAZY void update(const mount_record& record, durability sync);
    // Takes the record and all that it keeps out of sight, for `erase`; nothing where it has gone.
    OVERMOUNT_LAZY [[nodiscard]] std::string discard(const mount_record& record);
    OVERMOUNT_LAZY void erase(const std::string& discarded);
    OVERMOUNT_LAZY void remove(const mount_record& record) { erase(discard(record)); }
    // Nothing where another holds it; `mount_not_found` where there is no record.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<unique_fd> try_lock(const mount_record& record) const;

    OVERMOUNT_LAZY [[nodiscard]] std::optional<mount_record> find(const std::string& id) const;
    // The records that can be read; what is wrong with the others, named by their paths in the repository.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<mount_record> list(std::vector<error>* damaged = nullptr) const;
    OVERMOUNT_LAZY [[nodiscard]] mount_state state(const mount_record& record, const alive_test& alive) const;
    // Whether an overlay may use the upper, whatever became of the mount itself.
    OVERMOUNT_LAZY [[nodiscard]] bool uses_upper(const mount_record& record, const alive_test& alive) const;
    // The first mount that needs the image: one that is alive, or whose upper is kept. `corrupt_repository` where a record
    // cannot be read: it may name the image.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<mount_record> in_use(const digest& image, const alive_test& alive) const;
    // Removes the records of read-only mounts that are stopped. An upper stays for its owner.
    OVERMOUNT_LAZY void sweep(const alive_test& alive) noexcept;

    // Whether the machine went down while the mount was volatile.
    OVERMOUNT_LAZY [[nodiscard]] static bool may_be_incomplete(const mount_record& record);
    // Makes what was written in a stopped mount last, and removes the mark by which the kernel refuses its work directory.
    OVERMOUNT_LAZY void prepare_again(const mount_record& record, bool sync);
    // Gives the upper of a new mount the attributes of what it covers: it is what shows as the root.
    OVERMOUNT_LAZY void prepare_upper(const mount_record& record, const std::optional<chain_id>& top,
                                      const std::vector<stacked_layer>& stack);

    // Throws too_many_layers where a mount could not stack these.
    OVERMOUNT_LAZY void require_stackable(const std::optional<chain_id>& top, const std::vector<stacked_layer>& stack);
    // What to mount for a stack of layers, topmost first, which outlives it; makes the chain's correction if it is not there yet.
    // Without layers the root is empty.
    OVERMOUNT_LAZY [[nodiscard]] mount_spec spec_of(const mount_record& record, const std::optional<chain_id>& top,
                                                    const std::vector<stacked_layer>& stack);
    // The directory that shows as the root of a mount that is read-only.
    OVERMOUNT_LAZY [[nodiscard]] unique_fd root_below(const mount_record& record, const std::optional<chain_id>& top,
                                                      const std::vector<stacked_layer>& stack);
    // Whether the chain's correction was made, or found not to be needed; not so where the chain is not there.
    OVERMOUNT_LAZY [[nodiscard]] bool has_correction_note(const chain_id& top) const;
    // Makes `layers/<chain>/correction` and says whether there is anything in it.
    OVERMOUNT_LAZY bool ensure_correction(const chain_id& top, const std::vector<stacked_layer>& stack);
    // The same of one that is found already; no note is there.
    OVERMOUNT_LAZY void write_correction(const chain_id& top, correction& wanted, int staging);
    // Whether a mount would do without a correction that the chain needs. One that was never made is no loss: the
    // next mount makes it.
    OVERMOUNT_LAZY [[nodiscard]] bool lost_correction(const chain_id& top, const std::vector<stacked_layer>& stack) const;

    // The corrections of all chains with one of these diffs are made again by who needs them next. Mounts keep those that they have:
    // as `correction-<boot>.<n>`, which goes with the layer, or in another boot.
    OVERMOUNT_LAZY void forget_corrections(const std::set<diff_id>& diffs) const;

    // The same of one chain, and makes it.
    OVERMOUNT_LAZY void remake_correction(const chain_id& top, const std::vector<stacked_layer>& stack);

private:
    OVERMOUNT_LAZY [[nodiscard]] bool ask(const mount_record& record, const mount_identity& identity, const alive_test& alive) const;

    std::shared_ptr<store> store_;
};

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/mount_table.ipp>
#endif

#endif
