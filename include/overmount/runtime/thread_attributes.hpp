// Attributes of worker threads: the file descriptor table, which all threads share, and each thread's own umask.
#ifndef OVERMOUNT_RUNTIME_THREAD_ATTRIBUTES_HPP
#define OVERMOUNT_RUNTIME_THREAD_ATTRIBUTES_HPP

#include <overmount/core/config.hpp>

#include <sys/types.h>

namespace overmount::OVERMOUNT_ABI::detail {

// Grows the kernel's file descriptor table of this process to `count` entries. Call it before threads start: in a process with
// threads, each growth of the table blocks the thread that opens a file for ten milliseconds or more (RCU synchronization).
void reserve_descriptors(int count) noexcept;

// Gives the calling thread its own working directory, root and umask; see unshare(2), CLONE_FS. Does nothing if the kernel or a
// seccomp filter forbids it.
void own_fs_attributes() noexcept;

// While an object exists, files that this thread creates have exactly the mode that is passed to open(2), because the thread's own
// umask is 0. `now` returns whether this is in effect. Threads that share the process's umask are not affected.
class exact_modes
{
public:
    exact_modes() noexcept;
    exact_modes(const exact_modes&) = delete;
    exact_modes& operator=(const exact_modes&) = delete;
    ~exact_modes();

    [[nodiscard]] static bool now() noexcept { return active_; }

private:
    friend void own_fs_attributes() noexcept;
    inline static thread_local bool has_own_umask_ = false, active_ = false;
    bool outermost_ = false;
    mode_t saved_umask_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/thread_attributes.ipp>
#endif

#endif
