#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_STORE_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_STORE_IPP

#include <overmount/repository/records/damage.hpp>
#include <overmount/repository/records/store.hpp>

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>

namespace overmount::OVERMOUNT_ABI::detail {

// Images refer to layers, and layers to diffs: if any of them exists, the directories of all three have existed, and a missing one
// means that data is lost.
OVERMOUNT_LAZY inline bool is_lost_directory(int base, std::string_view name)
{
    const std::array kept = {"images", "layers", "diffs"};
    return std::find(kept.begin(), kept.end(), name) != kept.end() && std::any_of(kept.begin(), kept.end(), [&](const char* other) {
        return exists(base, other) && !list_directory(base, other).empty();
    });
}

OVERMOUNT_LAZY_BODY store_directories::store_directories(const header_record& header, int base)
{
    const auto open = [&](const char* name) {
        unique_fd out(::openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!out && errno != ENOENT)
            throw_errno("open directory", (header.base() / name).string());
        if (out)
            return out;
        // A copy may have left out empty directories: create them again.
        if (header.read_only() || is_lost_directory(base, name))
            throw error(errc::corrupt_repository)
                .at(stage::repository)
                .subject((header.base() / name).string())
                .detail("the directory is missing: the repository may have been copied in part; restore it from a full copy");
        make_directory(base, name, 0700);
        sync_directory(base);
        return open_directory(base, name);
    };
    diffs = open("diffs");
    layers = open("layers");
    images = open("images");
    manifests = open("manifests");
    tags = open("tags");
    blobs = open("blobs");
    mounts = open("mounts");
    leases = open("leases");
    claims = open("claims");
    tmp = open("tmp");
    // A repository of an earlier version has no `imports`; create it when the repository may be written.
    imports.reset(::openat(base, "imports", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!imports && !header.read_only()) {
        make_directory(base, "imports", 0700);
        sync_directory(base);
        imports = open("imports");
    }
    if (!header.read_only()) // an empty file needs no draft, which another process could sweep: no lock is held
        checked(unique_fd(::openat(imports.get(), "last", O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)).get(), "create", "last");
}

OVERMOUNT_LAZY_BODY store::store(const std::filesystem::path& base, std::string_view form, bool allow_others, std::optional<uid_t> owner)
    : header_(base, form, allow_others, owner), directories_(header_, header_.fd()), staging(directories_.tmp.get()),
      layers(directories_.layers.get()), image_files(directories_.images.get()), manifests(directories_.manifests.get()),
      tag_files(directories_.tags.get()), blobs(directories_.blobs.get()),
      imports(directories_.imports.get(), directories_.tmp.get(), image_files, tag_files),
      leases(directories_.leases.get()), claims(directories_.claims.get())
{
}

OVERMOUNT_LAZY_BODY repository_lock store::lock(lock_kind kind) const
{
    if (header_.read_only())
        throw error(errc::unsupported_repository)
            .at(stage::repository)
            .subject(base().string())
            .detail("the repository can only be read: " + header_.why_read_only());
    return {base_fd(), kind, [this] { header_.note_feature(); }};
}

OVERMOUNT_LAZY_BODY std::optional<std::string> store::image(const digest& id) const
{
    if (auto found = image_files.find(id))
        return found;
    for (auto& [name, record] : imports.pending())
        for (import_record::image& one : record.images)
            if (one.id == id)
                return std::move(one.config);
    return image_files.find(id); // an import may have been applied meanwhile
}

OVERMOUNT_LAZY_BODY std::vector<digest> store::images(const damage_listener& damaged) const
{
    const auto list = [this](const auto& pending, const auto&) {
        std::vector<digest> out = image_files.list();
        for (const auto& [name, record] : pending)
            for (const import_record::image& one : record.images)
                out.push_back(one.id);
        std::sort(out.begin(), out.end());
        out.erase(std::unique(out.begin(), out.end()), out.end());
        return out;
    };
    return listed(list, damaged);
}

OVERMOUNT_LAZY_BODY std::optional<tag_record> store::tag(std::string_view name) const
{
    const auto pending = imports.pending();
    for (const auto& [file, record] : pending)
        for (const tag_record& one : record.tags)
            if (one.name == name)
                return one;
    return tag_files.find(name);
}

OVERMOUNT_LAZY_BODY std::vector<tag_record> store::tags(const damage_listener& damaged) const
{
    const auto list = [this](const auto& pending, const auto& note) {
        std::map<std::string, tag_record> found;
        for (const std::string& file : tag_files.files()) {
            try {
                if (auto tag = tag_files.read(file))
                    found.insert_or_assign(tag->name, std::move(*tag));
            } catch (error& failure) {
                failure.subject("tags/" + file);
                if (!is_damage(failure))
                    throw;
                note(failure);
            }
        }
        for (const auto& [name, record] : pending)
            for (const tag_record& tag : record.tags)
                found.insert_or_assign(tag.name, tag);
        std::vector<tag_record> out;
        for (auto& [name, tag] : found)
            out.push_back(std::move(tag));
        return out;
    };
    return listed(list, damaged);
}

OVERMOUNT_LAZY_BODY std::vector<digest> store::kept_diffs() const { return listed_digests(diffs()); }

OVERMOUNT_LAZY_BODY void store::sync_diffs() const
{
    sync_directory(diffs());
    for (const std::string& name : list_directory(diffs(), ".")) {
        const unique_fd directory(::openat(diffs(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (directory)
            sync_directory(directory.get());
        else if (errno != ENOTDIR && errno != ELOOP && errno != ENOENT)
            throw_errno("open directory", name); // other files belong to a storage policy with its own layout
    }
}

OVERMOUNT_LAZY_BODY std::uint64_t store::set_dead_aside() const
{
    staging.set_dead_aside();
    header_.remove_drafts();
    claims.sweep();
    return leases.sweep();
}

OVERMOUNT_LAZY_BODY void store::apply_abandoned() const noexcept
{
    try {
        if (read_only() || imports.pending_names().empty())
            return;
        if (auto mine = lock(lock_kind::roots); mine.try_take())
            imports.apply_all(durability::batch);
    } catch (const std::exception&) {
        // The next operation that changes a root must apply them, and reports the error.
    }
}

OVERMOUNT_LAZY_BODY void store::sweep() const noexcept
{
    try {
        if (auto alone = lock(lock_kind::exclusive); alone.try_take())
            set_dead_aside();
        staging.remove_trash();
    } catch (const std::exception&) {
        // Do not fail the operation that happens to sweep: it has done its own work. A collection reports what cannot be removed.
    }
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
