#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_REPOSITORY_LOCK_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_REPOSITORY_LOCK_IPP

#include <overmount/repository/records/repository_lock.hpp>

#include <fcntl.h>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL repository_lock::repository_lock(int base, lock_kind kind, std::function<void()> when_taken)
    : fd_(checked(::openat(base, "repository.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), "open", "repository.lock")),
      kind_(kind), when_taken_(std::move(when_taken))
{
}

OVERMOUNT_DECL bool repository_lock::try_take()
{
    const bool have = attempt();
    if (kind_ != lock_kind::exclusive && waits_ == have) {
        waits_ = !have;
        static_cast<void>(try_lock_bytes(fd_.get(), waits_ ? F_RDLCK : F_UNLCK, waiting_byte, 1));
    }
    if (have && when_taken_) {
        try {
            when_taken_();
        } catch (...) {
            release();
            throw;
        }
    }
    return have;
}

OVERMOUNT_DECL bool repository_lock::is_awaited() const { return is_locked(fd_.get(), waiting_byte, 1); }

OVERMOUNT_DECL bool repository_lock::attempt()
{
    const short type = kind_ == lock_kind::exclusive ? F_WRLCK : F_RDLCK;
    if (!in_turnstile_ && !try_lock_bytes(fd_.get(), type, turnstile_byte, 1))
        return false;
    in_turnstile_ = true;
    const bool have = try_lock_bytes(fd_.get(), type, lock_byte, 1);
    if (kind_ == lock_kind::exclusive && !have)
        return false; // and stay in the turnstile
    if (kind_ == lock_kind::roots && have && !try_lock_bytes(fd_.get(), F_WRLCK, roots_byte, 1)) {
        release();
        return false;
    }
    if (have || kind_ != lock_kind::exclusive) {
        in_turnstile_ = false;
        static_cast<void>(try_lock_bytes(fd_.get(), F_UNLCK, turnstile_byte, 1));
    }
    return have;
}

OVERMOUNT_DECL void repository_lock::release() noexcept
{
    in_turnstile_ = waits_ = false;
    struct flock all{};
    all.l_type = F_UNLCK;
    all.l_whence = SEEK_SET;
    ::fcntl(fd_.get(), F_OFD_SETLK, &all);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
