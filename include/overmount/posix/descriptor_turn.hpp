#ifndef OVERMOUNT_POSIX_DESCRIPTOR_TURN_HPP
#define OVERMOUNT_POSIX_DESCRIPTOR_TURN_HPP

#include <overmount/core/config.hpp>

#include <atomic>
#include <cstddef>

namespace overmount::inline OVERMOUNT_ABI::detail {

// How many more files the process may open at the moment; 0 where nobody can tell.
OVERMOUNT_LAZY [[nodiscard]] std::size_t free_descriptors() noexcept;

// The right to keep a few hundred files open. A process has only so many descriptors, and others need them as well: few have
// a turn at a time, each taken only where as many descriptors again stay free. Not thread-safe.
class descriptor_turn
{
public:
    static constexpr std::size_t descriptors = 256; // what one may use

    descriptor_turn() = default;
    descriptor_turn(const descriptor_turn&) = delete;
    descriptor_turn& operator=(const descriptor_turn&) = delete;
    ~descriptor_turn() { give_back(); }

    // True where it is taken, now or before.
    OVERMOUNT_LAZY bool take();
    void give_back() noexcept
    {
        if (held_)
            turns.fetch_sub(1);
        held_ = false;
    }

private:
    inline static std::atomic<std::size_t> turns = 0; // of the process
    bool held_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/posix/impl/descriptor_turn.ipp>
#endif

#endif
