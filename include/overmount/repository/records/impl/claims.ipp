#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_CLAIMS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_CLAIMS_IPP

#include <overmount/repository/records/claims.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/storage/record_file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL claim::~claim()
{
    // Unlink before unlocking: an operation that has opened the file meanwhile sees that it is no longer the one in place. If this
    // fails, a later sweep removes the file: its lock is free.
    if (directory_ >= 0)
        ::unlinkat(directory_, name_.c_str(), 0);
}

OVERMOUNT_DECL void claim::beat() const { checked(::futimens(lock_.fd(), nullptr), "utimens"); }

OVERMOUNT_DECL std::optional<claim> claim_table::try_take(const diff_id& id) const
{
    const std::string name = digest_name(id.value());
    if (auto lock = file_lock::try_exclusive(directory_, name))
        return claim(std::move(*lock), directory_, name);
    return std::nullopt;
}

OVERMOUNT_DECL std::shared_ptr<claim> claim_table::try_share(const diff_id& id) const
{
    auto mine = try_take(id);
    return mine ? new_shared<claim>(std::move(*mine)) : nullptr;
}

OVERMOUNT_DECL std::int64_t claim_table::last_beat(const diff_id& id) const
{
    struct stat status;
    if (::fstatat(directory_, digest_name(id.value()).c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    return status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
