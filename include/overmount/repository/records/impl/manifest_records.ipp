#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_MANIFEST_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_MANIFEST_RECORDS_IPP

#include <overmount/repository/records/manifest_records.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL void manifest_records::add(record_batch& into, const digest& id, std::string_view manifest) const
{
    into.add(directory_, digest_name(id) + ".json", manifest, existing::keep);
}

OVERMOUNT_DECL void manifest_records::put_again(int staging, const digest& id, std::string_view manifest, durability sync) const
{
    put_record(staging, directory_, digest_name(id) + ".json", manifest, sync, existing::replace);
}

OVERMOUNT_DECL std::optional<std::string> manifest_records::find(const digest& id) const
{
    return read_file(directory_, digest_name(id) + ".json", record_limit);
}

OVERMOUNT_DECL std::vector<digest> manifest_records::list() const { return listed_digest_names(directory_, ".json"); }

OVERMOUNT_DECL bool manifest_records::remove(int staging, const digest& id, durability sync) const
{
    return remove_record(staging, directory_, digest_name(id) + ".json", sync);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
