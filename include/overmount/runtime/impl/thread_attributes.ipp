#ifndef OVERMOUNT_RUNTIME_IMPL_THREAD_ATTRIBUTES_IPP
#define OVERMOUNT_RUNTIME_IMPL_THREAD_ATTRIBUTES_IPP

#include <overmount/runtime/thread_attributes.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL void reserve_descriptors(int count) noexcept
{
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const auto last = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(count))) - 1;
    const int root_fd = ::open("/", O_PATH | O_CLOEXEC);
    if (root_fd < 0)
        return;
    if (const int last_fd = ::fcntl(root_fd, F_DUPFD_CLOEXEC, last); last_fd >= 0)
        ::close(last_fd);
    ::close(root_fd);
}

OVERMOUNT_DECL void own_fs_attributes() noexcept { exact_modes::has_own_umask_ = ::unshare(CLONE_FS) == 0; }

OVERMOUNT_DECL exact_modes::exact_modes() noexcept
{
    if (!has_own_umask_ || active_)
        return;
    saved_umask_ = ::umask(0);
    active_ = outermost_ = true;
}

OVERMOUNT_DECL exact_modes::~exact_modes()
{
    if (!outermost_)
        return;
    active_ = false;
    ::umask(saved_umask_);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
