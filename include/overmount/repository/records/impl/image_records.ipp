#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_IMAGE_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_IMAGE_RECORDS_IPP

#include <overmount/repository/records/image_records.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL bool image_records::add(record_batch& into, const digest& id, std::string_view config, bool durable) const
{
    std::vector<record_batch::file> files{{"config.json", std::string(config)}};
    if (durable)
        files.push_back({"durable", ""});
    return into.add_directory(directory_, digest_path(id), files);
}

OVERMOUNT_DECL void image_records::put_again(int staging, const digest& id, std::string_view config, durability sync) const
{
    record_batch whole(staging, sync);
    add(whole, id, config, false);
    whole.sync_drafts();
    whole.publish();
    put_record(staging, open_directory(directory_, digest_path(id)).get(), "config.json", config, sync, existing::replace);
}

OVERMOUNT_DECL std::optional<std::string> image_records::find(const digest& id) const
{
    return read_file(directory_, digest_path(id) + "/config.json", record_limit);
}

OVERMOUNT_DECL std::vector<digest> image_records::list() const { return listed_digests(directory_); }

OVERMOUNT_DECL bool image_records::remove(int staging, const digest& id, durability sync) const
{
    return remove_record(staging, directory_, digest_path(id), sync);
}

OVERMOUNT_DECL bool image_records::is_durable(const digest& id) const
{
    return exists(directory_, digest_path(id) + "/durable");
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
