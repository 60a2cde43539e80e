#ifndef OVERMOUNT_STORAGE_IMPL_SYNC_TREE_IPP
#define OVERMOUNT_STORAGE_IMPL_SYNC_TREE_IPP

#include <overmount/posix/fs.hpp>
#include <overmount/storage/sync_tree.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Opens a path of any length, which the kernel takes in pieces.
OVERMOUNT_LAZY inline unique_fd open_below(int root, std::string_view path, int flags)
{
    constexpr std::size_t most = 4000;
    unique_fd held;
    int from = root;
    while (path.size() > most) {
        const std::size_t cut = path.rfind('/', most);
        held = unique_fd(check(::openat(from, std::string(path.substr(0, cut)).c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                               "open directory", path));
        from = held.get();
        path.remove_prefix(cut + 1);
    }
    const std::string rest(path);
    return unique_fd(check(::openat(from, rest.c_str(), flags | O_NOFOLLOW | O_CLOEXEC), "open", rest));
}

// Calls `file(fd)` for each file, and `directory(fd)` for each directory after all that is in it was listed.
template <class File, class Directory>
void each_in_tree(int root, const std::function<void()>& poll, const File& file, const Directory& directory)
{
    std::vector<std::string> todo{"."};
    while (!todo.empty()) {
        const std::string path = std::move(todo.back());
        todo.pop_back();
        const unique_fd level = open_below(root, path, O_RDONLY | O_DIRECTORY);
        for (const std::string& name : list_directory(level.get(), ".")) {
            poll();
            struct stat status;
            check(::fstatat(level.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat", name);
            if (S_ISDIR(status.st_mode))
                todo.push_back(path == "." ? name : path + "/" + name);
            else if (S_ISREG(status.st_mode))
                file(open_below(level.get(), name, O_RDONLY | O_NONBLOCK).get());
        }
        directory(level.get());
    }
}

OVERMOUNT_LAZY_BODY void sync_tree(int root, const std::function<void()>& poll)
{
    // All on its way first: to wait for each file by itself would take a journal's commit for each.
    const auto start = [](int fd) {
        check(::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE), "sync_file_range");
    };
    each_in_tree(root, poll, start, [](int) {});
    const auto finish = [](int fd) { check(::fsync(fd), "fsync"); };
    each_in_tree(root, poll, finish, finish);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
