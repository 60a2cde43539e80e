#ifndef OVERMOUNT_RUNTIME_IMPL_THREAD_ATTRIBUTES_IPP
#define OVERMOUNT_RUNTIME_IMPL_THREAD_ATTRIBUTES_IPP

#include <overmount/runtime/thread_attributes.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_DECL void reserve_descriptors(int count) noexcept
{
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const auto last = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(count))) - 1;
    const int any = ::open("/", O_PATH | O_CLOEXEC);
    if (any < 0)
        return;
    if (const int there = ::fcntl(any, F_DUPFD_CLOEXEC, last); there >= 0)
        ::close(there);
    ::close(any);
}

OVERMOUNT_DECL void own_fs_attributes() noexcept { exact_modes::own_ = ::unshare(CLONE_FS) == 0; }

OVERMOUNT_DECL exact_modes::exact_modes() noexcept
{
    if (!own_ || on_)
        return;
    before_ = ::umask(0);
    on_ = outermost_ = true;
}

OVERMOUNT_DECL exact_modes::~exact_modes()
{
    if (!outermost_)
        return;
    on_ = false;
    ::umask(before_);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
