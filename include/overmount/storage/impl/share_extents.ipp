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

namespace overmount::inline OVERMOUNT_ABI::detail {

// False where the file system cannot do it at all.
OVERMOUNT_LAZY inline bool share_file(int from, int to, std::uint64_t size)
{
    constexpr std::uint64_t piece = 1 << 20; // what differs somewhere is not shared
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
            break; // of this file alone; pieces that differ are no failure
    }
    return true;
}

// Nothing where it cannot be opened: the old tree is damaged, after all.
template <class Open>
unique_fd try_open(const Open& open)
{
    try {
        return open();
    } catch (const error&) {
        return unique_fd();
    }
}

OVERMOUNT_LAZY_BODY void share_extents(int from, int to)
{
    constexpr off_t smallest = 4096; // less than a block is never shared
    std::string opened;
    unique_fd old_level; // at that path, where there is one
    bool possible = true;
    const auto share = [&](int level, std::string_view path, const std::string& name) {
        struct stat ours, theirs;
        check(::fstatat(level, name.c_str(), &ours, AT_SYMLINK_NOFOLLOW), "stat", name);
        if (!possible || ours.st_size < smallest)
            return;
        if (opened != path) {
            opened = path;
            old_level = try_open([&] { return open_below(from, path, O_PATH | O_DIRECTORY); });
        }
        const unique_fd old = !old_level ? unique_fd() : try_open([&] { return open_to_read(old_level.get(), name); });
        if (old && ::fstat(old.get(), &theirs) == 0 && S_ISREG(theirs.st_mode) && theirs.st_size == ours.st_size)
            possible = share_file(old.get(), open_to_read(level, name).get(), static_cast<std::uint64_t>(ours.st_size));
    };
    each_in_tree(to, [] {}, share, [](int) {});
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
