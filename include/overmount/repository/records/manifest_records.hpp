#ifndef OVERMOUNT_REPOSITORY_RECORDS_MANIFEST_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_MANIFEST_RECORDS_HPP

#include <overmount/storage/record_file.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Manifests and indexes, byte for byte as they were imported: `manifests/<algorithm>-<hex>.json`.
class manifest_records
{
public:
    explicit manifest_records(int directory) noexcept : directory_(directory) {}

    void add(record_batch& into, const digest& id, std::string_view manifest) const;
    // Writes the record again where it is damaged or missing.
    void put_again(int staging, const digest& id, std::string_view manifest, durability sync) const;
    [[nodiscard]] std::optional<std::string> find(const digest& id) const;
    [[nodiscard]] std::vector<digest> list() const;
    bool remove(int staging, const digest& id, durability sync) const;

private:
    int directory_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/manifest_records.ipp>
#endif

#endif
