#ifndef OVERMOUNT_REPOSITORY_RECORDS_CHECK_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_CHECK_RECORDS_HPP

#include <overmount/check.hpp>
#include <overmount/repository/records/damage.hpp>
#include <overmount/repository/records/store.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// What the records of a repository say, at one moment. Nothing stands for one that is there and cannot be believed:
// that is found elsewhere, and nothing follows from it.
struct listed_records
{
    std::map<digest, std::optional<std::vector<diff_id>>> images = {};
    std::map<chain_id, std::optional<layer_record>> layers = {};
    std::set<diff_id> diffs = {};
    std::set<digest> manifests = {};
    std::vector<tag_record> tags = {};
};

// Every reference that leads nowhere, and every layer that is not what its name says. Pure.
OVERMOUNT_LAZY [[nodiscard]] std::vector<finding> broken_references(const listed_records& all);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/check_records.ipp>
#endif

#endif
