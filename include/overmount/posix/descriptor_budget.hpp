#ifndef OVERMOUNT_POSIX_DESCRIPTOR_BUDGET_HPP
#define OVERMOUNT_POSIX_DESCRIPTOR_BUDGET_HPP

#include <overmount/core/config.hpp>

#include <atomic>
#include <cstddef>

namespace overmount::OVERMOUNT_ABI::detail {

// Returns how many more files the process may open at the moment, or 0 if that cannot be determined.
[[nodiscard]] std::size_t free_descriptors() noexcept;

// A budget of 256 open descriptors. The number of descriptors of a process is limited, so at most eight objects hold a budget at a
// time, and `take` grants one only if another 256 descriptors stay free. One object is not thread-safe.
class descriptor_budget
{
public:
    static constexpr std::size_t descriptors = 256; // the size of one budget

    descriptor_budget() = default;
    descriptor_budget(const descriptor_budget&) = delete;
    descriptor_budget& operator=(const descriptor_budget&) = delete;
    ~descriptor_budget() { release(); }

    // Tries to take the budget. True if this object holds it, now or since an earlier call.
    bool take();
    void release() noexcept
    {
        if (held_)
            holders.fetch_sub(1);
        held_ = false;
    }

private:
    inline static std::atomic<std::size_t> holders = 0; // in the whole process
    bool held_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/posix/impl/descriptor_budget.ipp>
#endif

#endif
