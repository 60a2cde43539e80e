#ifndef OVERMOUNT_RUNTIME_NEW_SHARED_HPP
#define OVERMOUNT_RUNTIME_NEW_SHARED_HPP

#include <overmount/core/config.hpp>

#include <memory>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Like std::make_shared, with one more allocation, but thirty fewer functions to compile for each type.
template <class T, class... Arguments>
[[nodiscard]] std::shared_ptr<T> new_shared(Arguments&&... arguments)
{
    return std::shared_ptr<T>(new T(std::forward<Arguments>(arguments)...));
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
