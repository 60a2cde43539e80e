#ifndef OVERMOUNT_POSIX_IMPL_DESCRIPTOR_TURN_IPP
#define OVERMOUNT_POSIX_IMPL_DESCRIPTOR_TURN_IPP

#include <overmount/core/error.hpp>
#include <overmount/posix/descriptor_turn.hpp>
#include <overmount/posix/fs.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <exception>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Linux 6.2 and later give the number of open ones as the size of the directory.
OVERMOUNT_LAZY_BODY std::size_t free_descriptors() noexcept
{
    rlimit limit{};
    struct stat status;
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || ::stat("/proc/self/fd", &status) != 0)
        return 0;
    try {
        const std::size_t open = status.st_size != 0 ? static_cast<std::size_t>(status.st_size)
                                                     : list_directory(AT_FDCWD, "/proc/self/fd").size();
        return limit.rlim_cur > open ? limit.rlim_cur - open : 0;
    } catch (const std::exception&) { // none is left even for a look
        return 0;
    }
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
    if (free_descriptors() >= 2 * descriptors)
        return true;
    give_back();
    return false;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
