#ifndef OVERMOUNT_CORE_HANDLE_HPP
#define OVERMOUNT_CORE_HANDLE_HPP

#include <overmount/core/error.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

// Returns the pointer that a handle holds. Throws `invalid_handle` if the handle is empty: moved from, or default-constructed,
// as Asio does for the result of an operation that failed.
template <class Pointer>
[[nodiscard]] const Pointer& valid(const Pointer& held)
{
    if (!held)
        throw error(errc::invalid_handle);
    return held;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
