#ifndef OVERMOUNT_STORAGE_IMPL_SHARE_EXTENTS_IPP
#define OVERMOUNT_STORAGE_IMPL_SHARE_EXTENTS_IPP

#include <overmount/storage/each_in_tree.hpp>
#include <overmount/storage/share_extents.hpp>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::detail {

// Shares the equal pieces of two files. False if the file system does not support it.
inline bool share_file(int from, int to, std::uint64_t size)
{
    constexpr std::uint64_t piece = 1 << 20; // a piece is shared only if all of its bytes are equal
    alignas(file_dedupe_range) std::byte buffer[sizeof(file_dedupe_range) + sizeof(file_dedupe_range_info)];
    for (std::uint64_t at = 0; at < size; at += piece) {
        auto* const range = new (buffer) file_dedupe_range();
        range->src_offset = at;
        range->src_length = std::min(piece, size - at);
        range->dest_count = 1;
        auto* const info = new (buffer + sizeof(file_dedupe_range)) file_dedupe_range_info{};
        info->dest_fd = to;
        info->dest_offset = at;
        if (::ioctl(from, FIDEDUPERANGE, range) != 0)
            return errno != EOPNOTSUPP && errno != ENOTTY && errno != ENOSYS;
        if (info->status == -EOPNOTSUPP)
            return false;
        if (info->status < 0)
            break; // this file cannot be shared; pieces that differ are not an error
    }
    return true;
}

// Returns an empty descriptor on failure: parts of the old tree may be unreadable, since it is being replaced as damaged.
template <class Open>
unique_fd try_open(const Open& open)
{
    try {
        return open();
    } catch (const error&) {
        return unique_fd();
    }
}

OVERMOUNT_DECL void share_extents(int from, int to)
{
    constexpr off_t smallest = 4096; // file systems share whole blocks only
    std::string opened;
    unique_fd old_level; // the old tree's directory at `opened`; empty if it has none
    bool possible = true;
    const auto share = [&](int level, std::string_view path, const std::string& name) {
        struct stat ours, theirs;
        checked(::fstatat(level, name.c_str(), &ours, AT_SYMLINK_NOFOLLOW), "stat", name);
        if (!possible || ours.st_size < smallest)
            return;
        if (opened != path) {
            opened = path;
            old_level = try_open([&] { return open_below(from, path, O_PATH | O_DIRECTORY); });
        }
        // Open regular files only: the old tree may have a device at this path.
        if (!old_level || ::fstatat(old_level.get(), name.c_str(), &theirs, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(theirs.st_mode) ||
            theirs.st_size != ours.st_size)
            return;
        if (const unique_fd old = try_open([&] { return open_to_read(old_level.get(), name); }))
            possible = share_file(old.get(), open_to_read(level, name).get(), static_cast<std::uint64_t>(ours.st_size));
    };
    each_in_tree(to, [] {}, share, [](int) {});
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
