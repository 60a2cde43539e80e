#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_STAGING_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_STAGING_IPP

#include <overmount/repository/records/staging.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL void staging_directory::sync_file_system() const { checked(::syncfs(fd_.get()), "syncfs"); }

OVERMOUNT_DECL staging_directory staging_area::make() const
{
    std::string name = "work-" + random_id();
    make_directory(directory_, name, 0700);
    unique_fd fd = open_directory(directory_, name);
    auto lock = file_lock::try_exclusive(fd.get(), "lock");
    if (!lock) // the name is random: no other process uses it
        throw error(errc::corrupt_repository).at(stage::repository).operation("lock").subject("tmp/" + name);
    return {std::move(name), std::move(fd), std::move(*lock)};
}

OVERMOUNT_DECL void staging_area::remove(staging_directory& mine) const
{
    remove_tree(directory_, mine.name(), directory_);
}

OVERMOUNT_DECL void staging_area::set_dead_aside() const
{
    for (const std::string& name : list_directory(directory_, ".")) {
        // Drafts of records are written and renamed under the shared lock. This caller holds it exclusively, so they have no owner.
        bool dead = name.starts_with("record-") || name.starts_with("draft-") || name.starts_with("mount-");
        if (name.starts_with("work-")) {
            const unique_fd fd(::openat(directory_, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
            struct stat status; // no links: its owner is just removing it
            dead = fd && ::fstat(fd.get(), &status) == 0 && status.st_nlink != 0 && file_lock::try_exclusive(fd.get(), "lock");
        }
        if (dead && ::renameat(directory_, name.c_str(), directory_, ("dead-" + name).c_str()) != 0 && errno != ENOENT)
            throw_errno("rename", name);
    }
}

OVERMOUNT_DECL std::vector<std::string> staging_area::dead() const
{
    auto out = list_directory(directory_, ".");
    std::erase_if(out, [this](const std::string& name) {
        if (!name.starts_with("work-"))
            return true;
        const unique_fd fd(::openat(directory_, (name + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
        return !fd || is_locked(fd.get());
    });
    return out;
}

OVERMOUNT_DECL std::vector<std::string> staging_area::trash() const
{
    auto out = list_directory(directory_, ".");
    std::erase_if(out, [](const std::string& name) {
        return !name.starts_with("dead-") && !name.starts_with("trash-") && !name.starts_with("erased-");
    });
    return out;
}

OVERMOUNT_DECL void staging_area::remove_trash() const
{
    for (const std::string& name : trash())
        remove_tree(directory_, name, directory_);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
