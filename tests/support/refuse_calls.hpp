// Makes the kernel look older: statmount, listmount and the unique mount ID of statx are refused, in this process and
// all that it starts.
#ifndef OVERMOUNT_TESTS_SUPPORT_REFUSE_CALLS_HPP
#define OVERMOUNT_TESTS_SUPPORT_REFUSE_CALLS_HPP

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>

namespace overmount::test {

inline bool refuse_unique_mount_ids()
{
    constexpr unsigned number = offsetof(seccomp_data, nr);
    constexpr unsigned mask = offsetof(seccomp_data, args[3]) + (std::endian::native == std::endian::big ? 4 : 0);
    constexpr unsigned char steps = 8;
    const sock_filter filter[steps] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 457, 5, 0), // statmount
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 458, 4, 0), // listmount
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_statx, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, mask),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x4000, 1, 0), // STATX_MNT_ID_UNIQUE
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    };
    const sock_fprog program{steps, const_cast<sock_filter*>(filter)};
    if (::geteuid() != 0)
        ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

} // namespace overmount::test

#endif
