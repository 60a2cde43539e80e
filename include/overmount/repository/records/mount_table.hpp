#ifndef OVERMOUNT_REPOSITORY_RECORDS_MOUNT_TABLE_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_MOUNT_TABLE_HPP

#include <overmount/mount/correction.hpp>
#include <overmount/mount/mount_spec.hpp>
#include <overmount/mount/mountinfo.hpp>
#include <overmount/repository/records/records.hpp>
#include <overmount/repository/records/store.hpp>

#include <optional>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

namespace detail {

// The mounts of a repository, on disk: `mounts/<id>/` with record.json, target/, upper/ and work/.
class mount_table
{
public:
    explicit mount_table(std::shared_ptr<store> owner) : store_(std::move(owner)) {}

    // Makes a record and its directories. `target` is empty for one of the repository's own.
    OVERMOUNT_LAZY [[nodiscard]] mount_record add(const digest& image, const std::string& target, bool writable);
    OVERMOUNT_LAZY void remove(const mount_record& record);
    OVERMOUNT_LAZY [[nodiscard]] std::vector<mount_record> list() const;
    // A mount of another namespace counts as alive: nobody here can tell.
    OVERMOUNT_LAZY [[nodiscard]] static bool alive(const mount_record& record, const mountinfo& now);
    // Removes the records whose mount is gone. What was written in an earlier boot stays for its owner.
    OVERMOUNT_LAZY void sweep();

    // What to mount for a stack of layers, topmost first; makes the chain's correction if it is not there yet.
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

private:
    std::shared_ptr<store> store_;
};

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/mount_table.ipp>
#endif

#endif
