// What a thread of the process has for itself, and what all of them share.
#ifndef OVERMOUNT_RUNTIME_THREAD_ATTRIBUTES_HPP
#define OVERMOUNT_RUNTIME_THREAD_ATTRIBUTES_HPP

#include <overmount/core/config.hpp>

#include <sys/types.h>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Makes the kernel's table of this process's open files large enough for `count`, best before there are threads: where there
// are, each time that the table grows, whoever opens a file waits for all processors (RCU), for ten milliseconds or more.
void reserve_descriptors(int count) noexcept;

// Gives the calling thread a working directory, a root and a umask of its own, unshare(2), CLONE_FS; does nothing where
// the kernel or a filter forbids it.
void own_fs_attributes() noexcept;

// As long as it lives, a file that this thread creates has the very mode that open(2) is given, where `now` says so: the
// umask is the thread's own, and 0. Elsewhere it changes nothing, since the umask is that of the whole process.
class exact_modes
{
public:
    exact_modes() noexcept;
    exact_modes(const exact_modes&) = delete;
    exact_modes& operator=(const exact_modes&) = delete;
    ~exact_modes();

    [[nodiscard]] static bool now() noexcept { return on_; }

private:
    friend void own_fs_attributes() noexcept;
    inline static thread_local bool own_ = false, on_ = false;
    bool outermost_ = false;
    mode_t before_ = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/thread_attributes.ipp>
#endif

#endif
