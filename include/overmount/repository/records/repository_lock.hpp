// The lock of a repository. It never blocks in a system call: callers try it again.
#ifndef OVERMOUNT_REPOSITORY_RECORDS_REPOSITORY_LOCK_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_REPOSITORY_LOCK_HPP

#include <overmount/posix/fs.hpp>

#include <functional>
#include <optional>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The modes of the repository's lock.
enum class lock_kind
{
    shared,    // no collection runs: to look something up and lease it
    roots,     // shared, and the only holder that may change the roots: images, tags and mounts
    exclusive, // the only holder of any mode: the collection
};

// Locks on four bytes of `repository.lock`:
// - the lock itself;
// - a turnstile: each attempt passes it first. An exclusive attempt stays in it until it has the lock, so that a steady stream of
//   shared holders cannot starve it;
// - the lock of the roots;
// - a byte that waiting attempts lock shared, so that a holder that takes the lock exclusively again and again lets them in.
// Use one object for all retries of an attempt: it keeps its place in the turnstile.
class repository_lock
{
public:
    // \param when_taken called each time the lock was taken; if it throws, the lock is released
    repository_lock(int base, lock_kind kind, std::function<void()> when_taken = {});

    // Takes the lock if it is free, and returns whether it did. May be called again.
    [[nodiscard]] bool try_take();
    // Whether another attempt waits for the lock in a mode other than exclusive.
    [[nodiscard]] bool is_awaited() const;
    // Releases the lock, and the place in the turnstile.
    void release() noexcept;

private:
    [[nodiscard]] bool attempt();

    static constexpr std::int64_t lock_byte = 0, turnstile_byte = 1, roots_byte = 2, waiting_byte = 3;
    unique_fd fd_;
    lock_kind kind_;
    std::function<void()> when_taken_;
    bool in_turnstile_ = false, waits_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/repository_lock.ipp>
#endif

#endif
