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

namespace overmount::OVERMOUNT_ABI::detail {

// The records of a repository at one moment. nullopt stands for a record that exists but is damaged: the damage is reported
// elsewhere, and no reference of it is followed.
struct listed_records
{
    std::map<digest, std::optional<std::vector<diff_id>>> images = {};
    std::map<chain_id, std::optional<layer_record>> layers = {};
    std::set<diff_id> diffs = {};
    std::set<digest> manifests = {};
    std::vector<tag_record> tags = {};
};

// Finds every dangling reference, and every layer whose record does not match its chain ID. Pure.
[[nodiscard]] std::vector<finding> broken_references(const listed_records& all);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/check_records.ipp>
#endif

#endif
