#ifndef OVERMOUNT_STORAGE_IMPL_TREE_SIZE_IPP
#define OVERMOUNT_STORAGE_IMPL_TREE_SIZE_IPP

#include <overmount/storage/each_in_tree.hpp>
#include <overmount/storage/tree_size.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <unordered_set>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// False if the entry does not exist any more.
inline bool stat_entry(int directory, const std::string& name, struct stat& into)
{
    if (::fstatat(directory, name.c_str(), &into, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    if (errno != ENOENT)
        throw_errno("stat", name);
    return false;
}

OVERMOUNT_DECL std::uint64_t tree_size(int parent, const std::string& name, const std::function<void()>& poll)
{
    constexpr std::uint64_t block = 512;
    struct stat status;
    if (!stat_entry(parent, name, status))
        return 0;
    std::uint64_t out = static_cast<std::uint64_t>(status.st_blocks) * block;
    if (!S_ISDIR(status.st_mode))
        return out;
    std::unordered_set<ino_t> linked;
    std::vector<std::string> todo{name};
    while (!todo.empty()) {
        const std::string path = std::move(todo.back());
        todo.pop_back();
        unique_fd level;
        try {
            level = open_below(parent, path, O_RDONLY | O_DIRECTORY);
        } catch (const error& failure) {
            if (failure.code() != boost::system::errc::no_such_file_or_directory)
                throw;
            continue;
        }
        for (const std::string& entry : list_directory(level.get(), ".")) {
            poll();
            if (!stat_entry(level.get(), entry, status))
                continue;
            const bool first = S_ISDIR(status.st_mode) || status.st_nlink < 2 || linked.insert(status.st_ino).second;
            out += first ? static_cast<std::uint64_t>(status.st_blocks) * block : 0;
            if (S_ISDIR(status.st_mode))
                todo.push_back(path + "/" + entry);
        }
    }
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
