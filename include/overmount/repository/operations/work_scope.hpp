#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_WORK_SCOPE_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_WORK_SCOPE_HPP

#include <overmount/core/durability.hpp>
#include <overmount/repository/records/store.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The resources of a running operation: a staging directory, and a lease on all that the operation relies on or is about to
// publish. Used by one worker thread at a time. Call `clean` on a worker thread at the end, also if the operation has failed.
class work_scope
{
public:
    explicit work_scope(std::shared_ptr<store> records) : records_(std::move(records)) {}

    // Takes the lease and creates the directory. The caller has held the repository's lock, shared, since it looked up what it
    // leases.
    OVERMOUNT_LAZY void open(const lease_content& content)
    {
        lease_.emplace(records_->leases.take(content));
        directory_.emplace(records_->staging.make());
    }
    [[nodiscard]] bool is_open() const noexcept { return directory_.has_value(); }
    [[nodiscard]] const held_lease& lease() const { return *lease_; }
    // The descriptor of the staging directory.
    [[nodiscard]] int staging() const noexcept { return directory_->fd(); }

    // With `durability::batch`, called before the staged files are published. Uses the descriptor that was opened before they were
    // written, so that no write-back error is missed.
    OVERMOUNT_LAZY void sync_file_system() const { directory_->sync_file_system(); }

    // Removes the directory and its content, then the lease, and then the files of dead owners.
    OVERMOUNT_LAZY void clean()
    {
        if (!directory_)
            return lease_.reset();
        auto mine = std::move(*directory_);
        directory_.reset();
        try {
            records_->staging.remove(mine);
        } catch (const error&) {
            // Do not fail the operation for this: a later sweep removes the directory, whose lock is then free.
        }
        lease_.reset();
        records_->sweep();
    }

private:
    std::shared_ptr<store> records_;
    std::optional<held_lease> lease_;
    std::optional<staging_directory> directory_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
