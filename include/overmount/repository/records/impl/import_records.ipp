#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_IMPORT_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_IMPORT_RECORDS_IPP

#include <overmount/oci/detail/json_record.hpp>
#include <overmount/repository/records/check_records.hpp>
#include <overmount/repository/records/import_records.hpp>
#include <overmount/storage/impl/diff_record.ipp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY std::string import_record::text() const
{
    std::vector<std::string> ids, durable, configs, names;
    for (const image& one : images) {
        ids.push_back(one.id.string());
        if (one.durable)
            durable.push_back(one.id.string());
        configs.push_back(percent_encode(one.config));
    }
    for (const tag_record& tag : tags)
        names.push_back(tag_text(tag));
    json_record out;
    out.number("version", 1).texts("images", std::move(ids)).texts("configs", std::move(configs));
    out.texts("durable", std::move(durable)).texts("tags", std::move(names));
    return out.string();
}

OVERMOUNT_LAZY_BODY import_record import_record::parse(std::string_view text)
{
    std::uint64_t version = 0;
    std::vector<std::string> ids, durable, configs, names;
    read_record(text, json_object({{"version", json_number(version).required()},
                                   {"images", json_texts(ids).required()},
                                   {"configs", json_encoded_list(configs).required()},
                                   {"durable", json_texts(durable).required()},
                                   {"tags", json_texts(names).required()}}));
    if (version != 1 || ids.size() != configs.size())
        throw error(errc::corrupt_repository).at(stage::repository);
    import_record out;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const bool lasts = std::find(durable.begin(), durable.end(), ids[i]) != durable.end();
        out.images.push_back({digest::parse(ids[i]), std::move(configs[i]), lasts});
    }
    for (const std::string& name : names)
        out.tags.push_back(parse_tag(name));
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<std::string> import_records::names() const
{
    std::vector<std::string> out;
    if (directory_ >= 0)
        out = list_directory(directory_, ".");
    std::erase_if(out, [](const std::string& name) { return !name.ends_with(".json"); });
    std::sort(out.begin(), out.end());
    return out;
}

OVERMOUNT_LAZY_BODY import_records::records import_records::readable(const std::vector<std::string>& names,
                                                                     const damage_listener& damaged) const
{
    records out;
    for (const std::string& name : names) {
        try {
            if (const auto text = read_file(directory_, name, record_limit))
                out.emplace_back(name, import_record::parse(*text));
        } catch (error& failure) {
            failure.subject("imports/" + name);
            if (!is_damage(failure))
                throw;
            damaged(failure);
        }
    }
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<std::pair<std::string, import_record>> import_records::pending() const
{
    return readable(names(), [](const error& failure) { throw failure; });
}

OVERMOUNT_LAZY_BODY unique_fd import_records::last() const
{
    return unique_fd(directory_ < 0 ? -1 : ::openat(directory_, "last", O_PATH | O_NOFOLLOW | O_CLOEXEC));
}

OVERMOUNT_LAZY_BODY bool import_records::is_last(const unique_fd& file) const
{
    const unique_fd now = last();
    if (!file || !now)
        return !file && !now;
    struct stat a, b;
    check(::fstat(file.get(), &a), "stat", "last");
    check(::fstat(now.get(), &b), "stat", "last");
    return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

OVERMOUNT_LAZY_BODY void import_records::announce(const std::string& name) const
{
    const std::string here = "record-" + random_id();
    check(::linkat(directory_, name.c_str(), staging_, here.c_str(), 0), "link", name);
    rename_over(staging_, here, directory_, "last");
}

OVERMOUNT_LAZY_BODY void import_records::remove(const std::string& name) const
{
    if (::unlinkat(directory_, name.c_str(), 0) != 0 && errno != ENOENT)
        throw_errno("unlink", name);
}

OVERMOUNT_LAZY_BODY void import_records::apply_all(durability sync) const
{
    for (const auto& [name, record] : pending()) {
        announce(name);
        record_batch places(staging_, sync);
        for (const import_record::image& one : record.images)
            images_.add(places, one.id, one.config, one.durable);
        for (const tag_record& tag : record.tags)
            tags_.add(places, tag);
        places.sync_drafts();
        places.show();
        remove(name);
    }
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
