#ifndef OVERMOUNT_REPOSITORY_RECORDS_BLOB_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_BLOB_RECORDS_HPP

#include <overmount/storage/record_file.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// `blobs/<algorithm>/<hex>`, as they came.
class blob_records
{
public:
    explicit blob_records(int directory) noexcept : directory_(directory) {}

    // No descriptor where there is none.
    OVERMOUNT_LAZY [[nodiscard]] unique_fd open(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> list() const;
    OVERMOUNT_LAZY [[nodiscard]] bool contains(const digest& id, std::uint64_t size) const;
    OVERMOUNT_LAZY void add(record_batch& into, const digest& id, std::string_view content) const;
    // The same with a finished file `name` of the directory `from`, whose digest was compared, and which is synced; it stays
    // where it is when the blob is there already.
    OVERMOUNT_LAZY void publish(int from, const std::string& name, const digest& id, durability sync) const;
    // The same where it is there and damaged: whoever reads the old one goes on doing so.
    OVERMOUNT_LAZY void replace(int from, const std::string& name, const digest& id, durability sync) const;
    // Of one that was there; where the disk has lost some of it, it goes, and the error says so.
    OVERMOUNT_LAZY void make_last(const digest& id, int staging) const;
    OVERMOUNT_LAZY bool remove(int staging, const digest& id, durability sync) const;

private:
    int directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/blob_records.ipp>
#endif

#endif
