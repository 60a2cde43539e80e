#ifndef OVERMOUNT_STORAGE_IMPL_SYNC_TREE_IPP
#define OVERMOUNT_STORAGE_IMPL_SYNC_TREE_IPP

#include <overmount/storage/each_in_tree.hpp>
#include <overmount/storage/sync_tree.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL void sync_tree(int root, const std::function<void()>& poll)
{
    // Start write-back of all files before waiting for any: fsync of one file after the other costs a journal commit each.
    const auto start = [](int level, std::string_view, const std::string& name) {
        checked(::sync_file_range(open_to_read(level, name).get(), 0, 0, SYNC_FILE_RANGE_WRITE), "sync_file_range");
    };
    each_in_tree(root, poll, start, [](int) {});
    const auto finish = [](int fd) { checked(::fsync(fd), "fsync"); };
    const auto finish_file = [finish](int level, std::string_view, const std::string& name) { finish(open_to_read(level, name).get()); };
    each_in_tree(root, poll, finish_file, finish);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
