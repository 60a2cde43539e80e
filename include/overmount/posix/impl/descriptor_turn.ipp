#ifndef OVERMOUNT_POSIX_IMPL_DESCRIPTOR_TURN_IPP
#define OVERMOUNT_POSIX_IMPL_DESCRIPTOR_TURN_IPP

#include <overmount/core/error.hpp>
#include <overmount/posix/descriptor_turn.hpp>
#include <overmount/posix/fs.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace overmount::inline OVERMOUNT_ABI::detail {

// How many are open. Linux 6.2 and later give it as the size of the directory. All there are where nobody knows.
OVERMOUNT_LAZY inline std::size_t open_descriptors()
{
    struct stat status;
    if (::stat("/proc/self/fd", &status) != 0)
        return static_cast<std::size_t>(-1) / 2;
    return status.st_size != 0 ? static_cast<std::size_t>(status.st_size) : list_directory(AT_FDCWD, "/proc/self/fd").size();
}

OVERMOUNT_LAZY_BODY bool descriptor_turn::take()
{
    constexpr std::size_t most = 8;
    if (held_)
        return true;
    held_ = turns.fetch_add(1) < most;
    if (!held_) {
        turns.fetch_sub(1);
        return false;
    }
    rlimit limit{};
    try {
        if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && open_descriptors() + 2 * descriptors <= limit.rlim_cur)
            return true;
    } catch (const error&) { // none is left even for a look
    }
    give_back();
    return false;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
