// The lock of a repository, which nobody waits for in a system call: it is tried, and tried again.
#ifndef OVERMOUNT_REPOSITORY_RECORDS_REPOSITORY_LOCK_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_REPOSITORY_LOCK_HPP

#include <overmount/posix/fs.hpp>

#include <functional>
#include <optional>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// How the repository is locked.
enum class lock_kind
{
    shared,    // it stays as it is, as far as a collection goes: to look something up and lease it
    roots,     // the same, and alone in changing what is a root: images, tags and mounts
    exclusive, // alone: the collection
};

// `repository.lock`, by bytes: the first is the lock itself; the second a turnstile, which everybody passes on his way, and where
// who wants the lock exclusively stays until he has it, so that those who come and go do not keep him out; the third is that
// of the roots; the fourth is shared by those who wait, so that who takes the lock exclusively again and again lets them in. One object for each attempt that may be repeated: it keeps its place in the turnstile.
class repository_lock
{
public:
    // \param when_taken is called each time it is had; what it throws gives it up again
    OVERMOUNT_LAZY repository_lock(int base, lock_kind kind, std::function<void()> when_taken = {});

    // Whether it is held from now on. Another attempt may follow.
    OVERMOUNT_LAZY [[nodiscard]] bool try_take();
    // Whether somebody else waits for it, shared.
    OVERMOUNT_LAZY [[nodiscard]] bool is_awaited() const;
    // Gives it up, and the place in the turnstile too.
    OVERMOUNT_LAZY void release() noexcept;

private:
    OVERMOUNT_LAZY [[nodiscard]] bool attempt();

    static constexpr std::int64_t lock_byte = 0, turnstile_byte = 1, roots_byte = 2, waiting_byte = 3;
    unique_fd fd_;
    lock_kind kind_;
    std::function<void()> when_taken_;
    bool in_turnstile_ = false, waits_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/repository_lock.ipp>
#endif

#endif
