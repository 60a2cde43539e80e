#ifndef OVERMOUNT_STORAGE_IMPL_DIFF_DIRECTORY_IPP
#define OVERMOUNT_STORAGE_IMPL_DIFF_DIRECTORY_IPP

#include <overmount/posix/fs.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/storage/diff_directory.hpp>
#include <overmount/storage/record_file.hpp>
#include <overmount/storage/share_extents.hpp>
#include <overmount/storage/sync_tree.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL diff_directory::diff_directory(storage_place place) : place_(place), boot_(boot_id()) {}

OVERMOUNT_DECL bool diff_directory::contains(const diff_id& id) const
{
    try {
        return !is_damaged(id) && find(id).has_value();
    } catch (const error& failure) {
        if (failure.code() != errc::corrupt_repository)
            throw;
        return false;
    }
}

OVERMOUNT_DECL bool diff_directory::is_damaged(const diff_id& id) const
{
    return exists(place_.diffs(), directory_of(id) + "/damaged");
}

OVERMOUNT_DECL diff_version diff_directory::version(const diff_id& id) const
{
    constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    auto fd = new_shared<unique_fd>(::openat(place_.diffs(), directory_of(id).c_str(), flags));
    if (!*fd)
        throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
    return {std::move(fd)};
}

OVERMOUNT_DECL bool diff_directory::is_current(const diff_id& id, const diff_version& version) const
{
    struct stat held, there;
    checked(::fstat(version.directory->get(), &held), "stat", id.string());
    return ::fstatat(place_.diffs(), directory_of(id).c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           there.st_ino == held.st_ino && there.st_dev == held.st_dev;
}

OVERMOUNT_DECL void diff_directory::mark_damaged(const diff_version& version, int staging)
{
    put_record(staging, version.directory->get(), "damaged", "", durability::full, existing::keep);
}

OVERMOUNT_DECL void diff_directory::unmark_damaged(const diff_version& version)
{
    if (::unlinkat(version.directory->get(), "damaged", 0) != 0 && errno != ENOENT)
        throw_errno("unlink", "damaged");
    sync_directory(version.directory->get());
}

OVERMOUNT_DECL diff_record diff_directory::record(const diff_id& id) const
{
    auto found = find(id);
    if (!found)
        throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
    return std::move(*found);
}

OVERMOUNT_DECL unique_fd diff_directory::open(const diff_id& id, const char* name) const
{
    unique_fd fd(
        ::openat(place_.diffs(), (directory_of(id) + "/" + name).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd && errno != ENOENT)
        throw_errno("open", name);
    if (!fd)
        throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
    return fd;
}

OVERMOUNT_DECL void diff_directory::make_durable(const diff_id& id, int staging, const std::function<void()>& poll) const
{
    diff_record noted = record(id);
    if (noted.sync == durability::none) {
        const unique_fd directory = open_directory(place_.diffs(), directory_of(id));
        try {
            sync_tree(directory.get(), poll);
        } catch (const error& failure) {
            if (failure.operation() != "fsync" && failure.operation() != "sync_file_range")
                throw;
            // The disk has lost data, and the kernel reports that only once. Without a boot ID the diff is not trusted any more.
            noted.boot.clear();
            put_record(staging, directory.get(), "diff.json", noted.to_json(), durability::none, existing::replace);
            throw;
        }
        // First, since nobody would remove it from a diff that is durable. The record that it is for has been synced.
        drop_early_mark(directory.get());
        noted.sync = durability::batch;
        put_record(staging, directory.get(), "diff.json", noted.to_json(), durability::batch, existing::replace);
    }
    sync_parents(place_.diffs(), std::string(to_string(id.value().algorithm())));
}

OVERMOUNT_DECL std::uint64_t diff_directory::identity(const diff_id& id) const
{
    struct stat status;
    return ::fstatat(place_.diffs(), directory_of(id).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_ino : 0;
}

OVERMOUNT_DECL bool diff_directory::mark_durable(const diff_id& id, std::uint64_t identity, int staging) const
{
    const unique_fd directory = open_directory(place_.diffs(), directory_of(id));
    struct stat status;
    checked(::fstat(directory.get(), &status), "stat", id.string());
    if (status.st_ino != identity)
        return false;
    diff_record noted = record(id);
    drop_early_mark(directory.get()); // as above
    noted.sync = durability::batch;
    put_record(staging, directory.get(), "diff.json", noted.to_json(), durability::batch, existing::replace);
    return true;
}

OVERMOUNT_DECL void diff_directory::rewrite(int staging, const std::string& name, const diff_record& record)
{
    const unique_fd directory = open_directory(staging, name);
    if (record.sync == durability::none)
        checked(unique_fd(::openat(directory.get(), early_mark, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)).get(), "create",
              early_mark);
    put_record(staging, directory.get(), "diff.json", record.to_json(), durability::none, existing::replace);
    if (record.sync != durability::none)
        drop_early_mark(directory.get());
}

OVERMOUNT_DECL bool diff_directory::set_aside(const diff_id& id, int into, const std::string& name) const
{
    if (::renameat(place_.diffs(), directory_of(id).c_str(), into, name.c_str()) == 0)
        return true;
    if (errno != ENOENT)
        throw_errno("rename", id.string());
    return false;
}

OVERMOUNT_DECL void diff_directory::erase(const diff_id& id) const
{
    const std::string gone = "erased-" + random_id();
    if (set_aside(id, place_.staging(), gone))
        remove_tree(place_.staging(), gone, place_.staging());
}

OVERMOUNT_DECL void diff_directory::write_record(const storage_place& place, int directory, const diff_record& record)
{
    write_file(directory, "diff.json", record.to_json());
    if (place.sync() != durability::full)
        return;
    const unique_fd file(checked(::openat(directory, "diff.json", O_RDONLY | O_CLOEXEC), "open", "diff.json"));
    checked(::fsync(file.get()), "fsync", "diff.json");
    sync_directory(directory);
}

OVERMOUNT_DECL bool diff_directory::publish(const storage_place& place, int staging, const std::string& name, const diff_id& id)
{
    const std::string algorithm(to_string(id.value().algorithm())), target = directory_of(id);
    bool made = ::renameat2(staging, name.c_str(), place.diffs(), target.c_str(), RENAME_NOREPLACE) == 0;
    if (!made && errno == ENOENT) // the first diff of this algorithm
        make_directory(place.diffs(), algorithm, 0700);
    made = made || rename_into_place(staging, name, place.diffs(), target);
    if (made && place.sync() == durability::full)
        sync_directory(open_directory(place.diffs(), algorithm).get());
    return made;
}

OVERMOUNT_DECL void diff_directory::replace(const storage_place& place, int staging, const std::string& name, const diff_id& id)
{
    const std::string algorithm(to_string(id.value().algorithm())), target = directory_of(id);
    const unique_fd parent = open_directory(place.diffs(), algorithm);
    if (const unique_fd old(::openat(place.diffs(), target.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)); old)
        share_extents(old.get(), open_directory(staging, name).get());
    std::string spare;
    for (unsigned n = 1; spare.empty(); ++n)
        if (const std::string one = target + "." + std::to_string(n); rename_into_place(staging, name, place.diffs(), one))
            spare = one;
    while (::renameat2(place.diffs(), spare.c_str(), place.diffs(), target.c_str(), RENAME_EXCHANGE) != 0) {
        if (errno != ENOENT)
            throw_errno("exchange", id.string());
        if (rename_into_place(place.diffs(), spare, place.diffs(), target)) // the old diff was erased meanwhile
            break;
    }
    if (place.sync() == durability::full)
        sync_directory(parent.get());
}

OVERMOUNT_DECL void diff_directory::drop_early_mark(int directory)
{
    if (::unlinkat(directory, early_mark, 0) != 0 && errno != ENOENT)
        throw_errno("unlink", early_mark);
}

OVERMOUNT_DECL std::optional<diff_record> diff_directory::find(const diff_id& id) const
{
    const std::string where = directory_of(id) + "/diff.json";
    const auto text = read_file(place_.diffs(), where, 1ull << 30);
    if (!text)
        return std::nullopt;
    diff_record found;
    try {
        found = in_record("diffs/" + where, [&text] { return diff_record::parse(*text); });
    } catch (const error&) {
        if (exists(place_.diffs(), directory_of(id) + "/" + early_mark))
            return std::nullopt; // it was never reported as durable, so this is not a damage
        throw;
    }
    if (found.sync == durability::none && found.boot != boot_)
        return std::nullopt;
    return found;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
