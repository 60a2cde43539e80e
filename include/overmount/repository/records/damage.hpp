#ifndef OVERMOUNT_REPOSITORY_RECORDS_DAMAGE_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_DAMAGE_HPP

#include <overmount/core/error.hpp>

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Whether the failure to read something of a repository says that this is damaged; others are of the machine, and say
// nothing of it. Pure.
OVERMOUNT_LAZY [[nodiscard]] inline bool is_damage(const error& failure)
{
    const auto code = failure.code();
    if (code.category() == error_category() || code.category() == archive_category())
        return true;
    // What stands in the place of something else, or is gone; and what the disk cannot read.
    constexpr int numbers[] = {ENOENT, ENOTDIR, EISDIR, ELOOP, ENXIO, ENODEV, EFBIG, EIO, EBADMSG, EUCLEAN};
    return code.category() == boost::system::system_category() &&
           std::find(std::begin(numbers), std::end(numbers), code.value()) != std::end(numbers);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
