#ifndef OVERMOUNT_REPOSITORY_RECORDS_CLAIMS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_CLAIMS_HPP

#include <overmount/core/digest.hpp>
#include <overmount/posix/fs.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Who holds it unpacks the diff. Its file goes with it.
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
    // Tells who waits that the work goes on.
    OVERMOUNT_LAZY void beat() const;

private:
    file_lock lock_;
    int directory_;
    std::string name_;
};

// `claims/<algorithm>-<hex>`.
class claim_table
{
public:
    explicit claim_table(int directory) noexcept : directory_(directory) {}

    // Nothing when another holds it.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<claim> try_take(const diff_id& id) const;
    // The same, to be shared with who beats it.
    OVERMOUNT_LAZY [[nodiscard]] std::shared_ptr<claim> try_share(const diff_id& id) const;
    // When the holder last made progress; nanoseconds since 1970, 0 when there is no claim.
    OVERMOUNT_LAZY [[nodiscard]] std::int64_t last_beat(const diff_id& id) const;
    // Removes the files that dead owners left.
    OVERMOUNT_LAZY void sweep() const { remove_unlocked(directory_); }

private:
    int directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/claims.ipp>
#endif

#endif
