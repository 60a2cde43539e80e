#ifndef OVERMOUNT_REPOSITORY_RECORDS_CLAIMS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_CLAIMS_HPP

#include <overmount/core/digest.hpp>
#include <overmount/posix/fs.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The claim of one diff: the operation that holds it unpacks the diff, others wait. The destructor removes the claim's file.
class claim
{
public:
    claim(file_lock lock, int directory, std::string name)
        : lock_(std::move(lock)), directory_(directory), name_(std::move(name))
    {
    }
    claim(claim&& other) noexcept
        : lock_(std::move(other.lock_)), directory_(std::exchange(other.directory_, -1)), name_(std::move(other.name_))
    {
    }
    claim& operator=(claim&&) = delete;
    ~claim();
    // Heartbeat: sets the file's time, so that waiting operations see that the work makes progress.
    void beat() const;

private:
    file_lock lock_;
    int directory_;
    std::string name_;
};

// The claims of a repository: `claims/<algorithm>-<hex>`, locked by their holders.
class claim_table
{
public:
    explicit claim_table(int directory) noexcept : directory_(directory) {}

    // nullopt if another operation holds the claim.
    [[nodiscard]] std::optional<claim> try_take(const diff_id& id) const;
    // The same, shared with the timer that beats it; null if another operation holds the claim.
    [[nodiscard]] std::shared_ptr<claim> try_share(const diff_id& id) const;
    // The time of the holder's last heartbeat, in nanoseconds since 1970; 0 if there is no claim.
    [[nodiscard]] std::int64_t last_beat(const diff_id& id) const;
    // Removes the claims of dead owners.
    void sweep() const { remove_unlocked(directory_); }

private:
    int directory_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/claims.ipp>
#endif

#endif
