#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_IMPORT_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_IMPORT_RECORDS_IPP

#include <overmount/oci/detail/json_record.hpp>
#include <overmount/repository/records/damage.hpp>
#include <overmount/repository/records/import_records.hpp>
#include <overmount/storage/impl/diff_record.ipp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace overmount::OVERMOUNT_ABI::detail {

// In bytes: a record has the configs of all images of one import, as text.
inline constexpr std::uint64_t import_record_limit = 256ull << 20;

OVERMOUNT_DECL std::string import_record::text() const
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
    std::string made = out.string();
    if (made.size() > import_record_limit)
        throw error(errc::json_limit_exceeded).at(stage::repository).detail("too many images for one import: import them in parts");
    return made;
}

OVERMOUNT_DECL import_record import_record::parse(std::string_view text)
{
    std::uint64_t version = 0;
    std::vector<std::string> ids, durable, configs, names;
    read_record(text, json_object({{"version", json_number(version).required()},
                                   {"images", json_texts(ids).required()},
                                   {"configs", json_encoded_list(configs).required()},
                                   {"durable", json_texts(durable).required()},
                                   {"tags", json_texts(names).required()}}));
    if (version != 1 || ids.size() != configs.size())
        throw error(errc::corrupt_repository).at(stage::repository).detail("this is not an import record of this version");
    import_record out;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const bool is_durable = std::find(durable.begin(), durable.end(), ids[i]) != durable.end();
        const auto id = digest::try_parse(ids[i]);
        if (!id)
            throw error(errc::corrupt_repository).at(stage::repository).detail("an image ID is not a digest: " + escape(ids[i]));
        out.images.push_back({*id, std::move(configs[i]), is_durable});
    }
    for (const std::string& name : names)
        out.tags.push_back(parse_tag(name));
    return out;
}

OVERMOUNT_DECL std::vector<std::string> import_records::pending_names() const
{
    std::vector<std::string> out;
    if (directory_ >= 0)
        out = list_directory(directory_, ".");
    std::erase_if(out, [](const std::string& name) { return !name.ends_with(".json"); });
    std::sort(out.begin(), out.end());
    return out;
}

OVERMOUNT_DECL import_records::records import_records::readable(const std::vector<std::string>& names,
                                                                     const damage_listener& damaged) const
{
    records out;
    for (const std::string& name : names) {
        try {
            if (const auto text = read_file(directory_, name, import_record_limit))
                out.emplace_back(name, in_record("imports/" + name, [&text] { return import_record::parse(*text); }));
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            if (damaged)
                damaged(failure);
        }
    }
    return out;
}

OVERMOUNT_DECL import_records::records import_records::pending(const damage_listener& damaged) const
{
    return readable(pending_names(), damaged);
}

OVERMOUNT_DECL unique_fd import_records::last() const
{
    if (directory_ < 0)
        return {};
    unique_fd out(::openat(directory_, "last", O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!out && errno != ENOENT)
        throw_errno("open", "imports/last");
    return out;
}

OVERMOUNT_DECL bool import_records::is_last(const unique_fd& file) const
{
    const unique_fd now = last();
    if (!file || !now)
        return !file && !now;
    struct stat a, b;
    checked(::fstat(file.get(), &a), "stat", "last");
    checked(::fstat(now.get(), &b), "stat", "last");
    return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

OVERMOUNT_DECL std::int64_t import_records::changed_at() const
{
    struct stat status;
    if (directory_ < 0)
        return 0;
    checked(::fstat(directory_, &status), "stat", "imports");
    return status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
}

OVERMOUNT_DECL void import_records::announce() const
{
    put_record(staging_, directory_, "last", "", durability::none, existing::replace);
}

OVERMOUNT_DECL void import_records::make_removals_last() const { sync_directory(directory_); }

OVERMOUNT_DECL void import_records::remove(const std::string& name) const
{
    if (::unlinkat(directory_, name.c_str(), 0) != 0 && errno != ENOENT)
        throw_errno("unlink", name);
}

OVERMOUNT_DECL void import_records::apply_all(durability sync) const
{
    // After a power cut, an import with `durability::none` may have left an empty file: its content is lost. `check` reports other
    // unreadable records.
    for (const std::string& name : pending_names()) {
        struct stat status;
        if (::fstatat(directory_, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_size == 0)
            remove(name);
    }
    for (const auto& [name, record] : pending()) {
        announce();
        record_batch places(staging_, sync);
        for (const import_record::image& one : record.images)
            images_.add(places, one.id, one.config, one.durable);
        for (const tag_record& tag : record.tags)
            tags_.add(places, tag);
        places.sync_drafts();
        places.publish();
        remove(name);
    }
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
