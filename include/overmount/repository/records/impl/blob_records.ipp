#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_BLOB_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_BLOB_RECORDS_IPP

#include <overmount/repository/records/blob_records.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL unique_fd blob_records::open(const digest& id) const
{
    unique_fd fd(::openat(directory_, digest_path(id).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd && errno != ENOENT)
        throw_errno("open", id.string());
    return fd;
}

OVERMOUNT_DECL std::vector<digest> blob_records::list() const { return listed_digests(directory_); }

OVERMOUNT_DECL bool blob_records::contains(const digest& id, std::uint64_t size) const
{
    struct stat status;
    return ::fstatat(directory_, digest_path(id).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode) &&
           static_cast<std::uint64_t>(status.st_size) == size;
}

OVERMOUNT_DECL void blob_records::add(record_batch& into, const digest& id, std::string_view content) const
{
    into.add(directory_, digest_path(id), content, existing::keep);
}

OVERMOUNT_DECL void blob_records::publish(int from, const std::string& name, const digest& id, durability sync) const
{
    make_directory(directory_, std::string(to_string(id.algorithm())), 0700);
    bool moved = rename_into_place(from, name, directory_, digest_path(id));
    struct stat there, mine;
    if (!moved && ::fstatat(directory_, digest_path(id).c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        ::fstatat(from, name.c_str(), &mine, AT_SYMLINK_NOFOLLOW) == 0 && there.st_size != mine.st_size) {
        rename_over(from, name, directory_, digest_path(id)); // a power cut has truncated the blob
        moved = true;
    }
    if (sync == durability::none)
        return;
    if (moved)
        sync_parents(directory_, std::string(to_string(id.algorithm())));
    else
        make_record_last(directory_, digest_path(id));
}

OVERMOUNT_DECL void blob_records::replace(int from, const std::string& name, const digest& id, durability sync) const
{
    rename_over(from, name, directory_, digest_path(id));
    if (sync != durability::none)
        sync_parents(directory_, std::string(to_string(id.algorithm())));
}

OVERMOUNT_DECL void blob_records::make_durable(const digest& id, int staging) const
{
    try {
        make_record_last(directory_, digest_path(id));
    } catch (const error&) {
        static_cast<void>(remove(staging, id, durability::none)); // part of it is lost, and the kernel reports that only once
        throw;
    }
}

OVERMOUNT_DECL bool blob_records::remove(int staging, const digest& id, durability sync) const
{
    return remove_record(staging, directory_, digest_path(id), sync);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
