#ifndef OVERMOUNT_POSIX_UNIQUE_FD_HPP
#define OVERMOUNT_POSIX_UNIQUE_FD_HPP

#include <overmount/core/config.hpp>

#include <unistd.h>

#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// Owns one file descriptor. Errors of close(2) are ignored: call fsync first to learn of a failed write-back.
///
/// *Concurrency*: not thread-safe.
class unique_fd
{
public:
    unique_fd() noexcept = default;
    explicit unique_fd(int fd) noexcept : fd_(fd) {}
    unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
    unique_fd& operator=(unique_fd&& other) noexcept
    {
        reset(other.release());
        return *this;
    }
    ~unique_fd() { reset(); }

    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    explicit operator bool() const noexcept { return fd_ >= 0; }

    void reset(int fd = -1) noexcept
    {
        if (const int old = std::exchange(fd_, fd); old >= 0 && old != fd)
            ::close(old);
    }

private:
    int fd_ = -1;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
