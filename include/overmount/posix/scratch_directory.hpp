#ifndef OVERMOUNT_POSIX_SCRATCH_DIRECTORY_HPP
#define OVERMOUNT_POSIX_SCRATCH_DIRECTORY_HPP

#include <overmount/posix/fs.hpp>

#include <fcntl.h>

#include <cstdlib>
#include <mutex>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// A temporary directory below $TMPDIR or /tmp. It is created on first use and removed recursively by the destructor.
class scratch_directory
{
public:
    scratch_directory() = default;
    scratch_directory(const scratch_directory&) = delete;
    scratch_directory& operator=(const scratch_directory&) = delete;
    ~scratch_directory()
    {
        if (!fd_)
            return;
        try {
            remove_tree(parent_.get(), name_, parent_.get());
        } catch (const std::exception&) {
            // A destructor cannot report the failure, and the directory is only temporary.
        }
    }

    // Callable from any thread.
    [[nodiscard]] int directory()
    {
        const std::lock_guard guard(mutex_);
        if (!fd_) {
            const char* given = std::getenv("TMPDIR");
            parent_ = open_directory(AT_FDCWD, given != nullptr && *given != '\0' ? given : "/tmp");
            name_ = "overmount-" + random_id();
            make_directory(parent_.get(), name_, 0700);
            fd_ = open_directory(parent_.get(), name_);
        }
        return fd_.get();
    }

private:
    std::mutex mutex_;
    unique_fd parent_, fd_;
    std::string name_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
