#ifndef OVERMOUNT_POSIX_IMPL_DESCRIPTOR_BUDGET_IPP
#define OVERMOUNT_POSIX_IMPL_DESCRIPTOR_BUDGET_IPP

#include <overmount/core/error.hpp>
#include <overmount/posix/descriptor_budget.hpp>
#include <overmount/posix/fs.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <exception>

namespace overmount::OVERMOUNT_ABI::detail {

// Linux 6.2 and later report the number of open descriptors as the size of /proc/self/fd.
OVERMOUNT_DECL std::size_t free_descriptors() noexcept
{
    rlimit limit{};
    struct stat status;
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || ::stat("/proc/self/fd", &status) != 0)
        return 0;
    try {
        const std::size_t open = status.st_size != 0 ? static_cast<std::size_t>(status.st_size)
                                                     : list_directory(AT_FDCWD, "/proc/self/fd").size();
        return limit.rlim_cur > open ? limit.rlim_cur - open : 0;
    } catch (const std::exception&) { // no descriptor is left to list the directory
        return 0;
    }
}

OVERMOUNT_DECL bool descriptor_budget::take()
{
    constexpr std::size_t most_holders = 8;
    if (held_)
        return true;
    held_ = holders.fetch_add(1) < most_holders;
    if (!held_) {
        holders.fetch_sub(1);
        return false;
    }
    if (free_descriptors() >= 2 * descriptors)
        return true;
    release();
    return false;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
