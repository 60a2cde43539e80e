#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_WORK_SCOPE_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_WORK_SCOPE_HPP

#include <overmount/core/durability.hpp>
#include <overmount/repository/records/store.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// What an operation has for itself as long as it works: a directory below tmp/, and a lease on what it relies on or is about to
// show. Used by one worker at a time; `clean` at the end, on a worker, whatever became of the operation.
class work_scope
{
public:
    explicit work_scope(std::shared_ptr<store> records) : records_(std::move(records)) {}

    // The caller holds the repository's lock, shared, since it looked up what it leases.
    OVERMOUNT_LAZY void open(const lease_content& content)
    {
        lease_.emplace(records_->leases.take(content));
        directory_.emplace(records_->staging.make());
    }
    [[nodiscard]] bool is_open() const noexcept { return directory_.has_value(); }
    [[nodiscard]] const held_lease& lease() const { return *lease_; }
    // Where it makes things.
    [[nodiscard]] int staging() const noexcept { return directory_->fd(); }

    // Before what was made there is shown, with `batch`: through the descriptor that was there before.
    OVERMOUNT_LAZY void sync_file_system() const { directory_->sync_file_system(); }

    // Removes the directory with all that is left in it, and then the lease; and what dead owners left.
    OVERMOUNT_LAZY void clean()
    {
        if (!directory_)
            return lease_.reset();
        auto mine = std::move(*directory_);
        directory_.reset();
        try {
            records_->staging.remove(mine);
        } catch (const error&) {
            // What was asked for is done, or has failed for another reason: the directory is swept when its lock can be had.
        }
        lease_.reset();
        records_->sweep();
    }

private:
    std::shared_ptr<store> records_;
    std::optional<held_lease> lease_;
    std::optional<staging_directory> directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
