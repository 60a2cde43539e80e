#ifndef OVERMOUNT_REPOSITORY_RECORDS_BLOB_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_BLOB_RECORDS_HPP

#include <overmount/storage/record_file.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Kept blobs, byte for byte as they were imported: `blobs/<algorithm>/<hex>`.
class blob_records
{
public:
    explicit blob_records(int directory) noexcept : directory_(directory) {}

    // An empty descriptor if the blob does not exist.
    [[nodiscard]] unique_fd open(const digest& id) const;
    [[nodiscard]] std::vector<digest> list() const;
    [[nodiscard]] bool contains(const digest& id, std::uint64_t size) const;
    void add(record_batch& into, const digest& id, std::string_view content) const;
    // Publishes the finished file `name` of the directory `from`. The caller has verified its digest and synced it. The file stays
    // where it is if the blob already exists.
    void publish(int from, const std::string& name, const digest& id, durability sync) const;
    // Publishes the file in place of a damaged blob. Readers that have the old file open keep reading it.
    void replace(int from, const std::string& name, const digest& id, durability sync) const;
    // Makes an existing blob durable. If its fsync fails, the disk has lost part of it: the blob is removed and the error thrown.
    void make_durable(const digest& id, int staging) const;
    bool remove(int staging, const digest& id, durability sync) const;

private:
    int directory_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/blob_records.ipp>
#endif

#endif
