#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_LEASES_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_LEASES_IPP

#include <overmount/repository/records/leases.hpp>

#include <unistd.h>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_DECL held_lease::~held_lease()
{
    if (directory_ >= 0) // a file that stays is swept when its lock can be had
        ::unlinkat(directory_, name_.c_str(), 0);
}

OVERMOUNT_LAZY_BODY void held_lease::add(const lease_content& more) const
{
    write_all(lock_.fd(), std::as_bytes(std::span(more.text())));
}

OVERMOUNT_LAZY_BODY held_lease lease_table::take(const lease_content& content) const
{
    std::string name = random_id();
    auto lock = file_lock::try_exclusive(directory_, name);
    if (!lock) // nobody else has the name
        throw error(errc::corrupt_repository).at(stage::repository).operation("lock").subject("leases/" + name);
    held_lease out(std::move(*lock), directory_, std::move(name));
    out.add(content);
    return out;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
