#ifndef OVERMOUNT_STORAGE_EACH_IN_TREE_HPP
#define OVERMOUNT_STORAGE_EACH_IN_TREE_HPP

#include <overmount/posix/fs.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Opens a path of any length below `root`, in steps where it is longer than the kernel accepts in one call.
inline unique_fd open_below(int root, std::string_view path, int flags)
{
    constexpr std::size_t most = 4000;
    unique_fd held;
    int from = root;
    while (path.size() > most) {
        const std::size_t cut = path.rfind('/', most);
        held = unique_fd(checked(::openat(from, std::string(path.substr(0, cut)).c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                               "open directory", path));
        from = held.get();
        path.remove_prefix(cut + 1);
    }
    const std::string rest(path);
    return unique_fd(checked(::openat(from, rest.c_str(), flags | O_NOFOLLOW | O_CLOEXEC), "open", rest));
}

inline unique_fd open_to_read(int level, const std::string& name)
{
    return open_below(level, name, O_RDONLY | O_NONBLOCK);
}

// Walks a tree. Calls `file(level, path, name)` for each regular file, where `path` is the path of the open directory `level`, and
// `directory(fd)` for each directory after its files. Uses one descriptor, however deep the tree is.
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
            checked(::fstatat(level.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat", name);
            if (S_ISDIR(status.st_mode))
                todo.push_back(path == "." ? name : path + "/" + name);
            else if (S_ISREG(status.st_mode))
                file(level.get(), std::string_view(path), name);
        }
        directory(level.get());
    }
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
