#ifndef OVERMOUNT_POSIX_SCRATCH_DIRECTORY_HPP
#define OVERMOUNT_POSIX_SCRATCH_DIRECTORY_HPP

#include <overmount/posix/fs.hpp>

#include <fcntl.h>

#include <cstdlib>
#include <mutex>
#include <string>

namespace overmount::inline OVERMOUNT_ABI::detail {

// A directory below $TMPDIR, or /tmp, that is made when it is first asked for and removed with all that is in it.
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
            // A destructor has nobody to tell; it is a temporary directory.
        }
    }

    // From any thread.
    OVERMOUNT_LAZY [[nodiscard]] int directory()
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

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
