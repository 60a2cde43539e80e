#ifndef OVERMOUNT_REPOSITORY_RECORDS_MANIFEST_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_MANIFEST_RECORDS_HPP

#include <overmount/storage/record_file.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// `manifests/<algorithm>-<hex>.json`, manifests and indexes byte for byte as they came.
class manifest_records
{
public:
    explicit manifest_records(int directory) noexcept : directory_(directory) {}

    OVERMOUNT_LAZY void add(record_batch& into, const digest& id, std::string_view manifest) const;
    // Where it is damaged or missing.
    OVERMOUNT_LAZY void put_again(int staging, const digest& id, std::string_view manifest, durability sync) const;
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> find(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> list() const;
    OVERMOUNT_LAZY void make_last(const digest& id) const;
    OVERMOUNT_LAZY bool remove(int staging, const digest& id, durability sync) const;

private:
    int directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/manifest_records.ipp>
#endif

#endif
