#ifndef OVERMOUNT_REPOSITORY_RECORDS_DAMAGE_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_DAMAGE_HPP

#include <overmount/core/error.hpp>

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace overmount::OVERMOUNT_ABI::detail {

// Whether an error while reading part of a repository means that this part is damaged. Other errors come from the machine (no
// memory, no descriptors, no permission) and say nothing about the repository. Pure.
[[nodiscard]] inline bool is_damage(const error& failure)
{
    const auto code = failure.code();
    if (code.category() == error_category())
        return true;
    // Missing files, files of the wrong type, and bytes that the disk cannot read.
    constexpr int numbers[] = {ENOENT, ENOTDIR, EISDIR, ELOOP, ENXIO, ENODEV, EFBIG, EIO, EBADMSG, EUCLEAN};
    return code.category() == boost::system::system_category() &&
           std::find(std::begin(numbers), std::end(numbers), code.value()) != std::end(numbers);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
