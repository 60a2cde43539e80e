#ifndef OVERMOUNT_STORAGE_ON_DISK_IMPL_UNFINISHED_FILES_IPP
#define OVERMOUNT_STORAGE_ON_DISK_IMPL_UNFINISHED_FILES_IPP

#include <overmount/core/error.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/storage/on_disk/unfinished_files.hpp>

#include <sys/xattr.h>
#include <unistd.h>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY std::array<timespec, 2> times_of(const tar::timestamp& time) noexcept
{
    const timespec value{static_cast<time_t>(time.seconds), static_cast<long>(time.nanoseconds)};
    return {value, value};
}

// True where it is to be left out; any other failure is thrown.
OVERMOUNT_LAZY inline bool no_place_for(const tar::xattr& attribute)
{
    const bool acl = attribute.name.starts_with("system.");
    const bool capability = attribute.name == "security.capability";
    if (errno == EOPNOTSUPP || (acl && attribute.value.empty()) || (capability && errno == EPERM))
        return true;
    if (errno == ENOSPC || errno == E2BIG || errno == ERANGE)
        throw error(errc::xattr_too_large).operation("setxattr").subject(attribute.name);
    throw_errno("setxattr", attribute.name);
}

template <class Set>
bool set_xattrs(const std::vector<tar::xattr>& xattrs, tar::entry_type type, Set set)
{
    bool skipped = false;
    for (int order = 0; !xattrs.empty() && order < 3; ++order) {
        for (const tar::xattr& attribute : xattrs) {
            if (!tar::stores_xattr(attribute.name, type))
                skipped = true;
            else if (tar::xattr_order(attribute.name) == order && set(attribute) != 0)
                skipped = no_place_for(attribute) || skipped;
        }
    }
    return skipped;
}

OVERMOUNT_LAZY_BODY bool set_xattrs(int fd, const std::vector<tar::xattr>& xattrs, tar::entry_type type)
{
    return set_xattrs(xattrs, type, [fd](const tar::xattr& one) {
        return ::fsetxattr(fd, one.name.c_str(), one.value.data(), one.value.size(), 0);
    });
}

OVERMOUNT_LAZY_BODY unfinished_files::task& unfinished_files::add(const std::string& entry, int fd)
{
    if (size_ == tasks_.size())
        tasks_.emplace_back();
    task& one = tasks_[size_++];
    one.entry = entry;
    one.fd = fd;
    return one;
}

OVERMOUNT_LAZY_BODY void unfinished_files::data(const std::string& entry, int fd, std::uint64_t offset,
                                                std::span<const std::byte> bytes)
{
    task& one = add(entry, fd);
    one.offset = offset;
    one.bytes = bytes;
}

OVERMOUNT_LAZY_BODY void unfinished_files::end(const tar::entry& entry, unique_fd&& fd, const file_end& what)
{
    // Mostly the data at hand are the file's.
    const bool same = size_ != 0 && tasks_[size_ - 1].fd == fd.get() && !tasks_[size_ - 1].ended;
    task& one = same ? tasks_[size_ - 1] : add(entry.path, fd.get());
    one.what = what;
    one.mode = entry.mode;
    one.uid = entry.uid;
    one.gid = entry.gid;
    one.mtime = entry.mtime;
    one.xattrs = entry.xattrs;
    one.ended = std::move(fd); // last: until here a failure leaves it open for those who have it
    ++ends_;
}

OVERMOUNT_LAZY_BODY void unfinished_files::write(const task& one)
{
    std::uint64_t offset = one.offset;
    for (auto bytes = one.bytes; !bytes.empty();) {
        const ssize_t written = ::pwrite(one.fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            throw_errno("write");
        offset += static_cast<std::uint64_t>(written);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

OVERMOUNT_LAZY_BODY void unfinished_files::finish(const task& one)
{
    if (one.what.size)
        check(::ftruncate(one.fd, static_cast<off_t>(*one.what.size)), "truncate");
    if (!one.what.has_owner)
        check(::fchown(one.fd, one.uid, one.gid), "chown");
    if (!one.what.has_mode)
        check(::fchmod(one.fd, one.mode), "chmod");
    if (set_xattrs(one.fd, one.xattrs, tar::entry_type::regular))
        *one.what.skipped_xattrs = true;
    check(::futimens(one.fd, times_of(one.mtime).data()), "utimens");
    if (one.what.sync)
        check(::fsync(one.fd), "fsync");
}

OVERMOUNT_LAZY_BODY void unfinished_files::run()
{
    struct clearing
    {
        explicit clearing(unfinished_files& all) : list(all) {}
        clearing(const clearing&) = delete;
        clearing& operator=(const clearing&) = delete;
        ~clearing() { list.clear(); }
        unfinished_files& list;
    } const whatever_happens(*this);
    for (std::size_t i = 0; i < size_; ++i) {
        task& one = tasks_[i];
        try {
            write(one);
            if (one.ended)
                finish(one);
        } catch (error& failure) {
            failure.entry(one.entry).at(stage::extract);
            throw;
        }
        one.ended.reset();
    }
}

OVERMOUNT_LAZY_BODY void unfinished_files::clear() noexcept
{
    for (std::size_t i = 0; i < size_; ++i) {
        tasks_[i].ended.reset();
        tasks_[i].bytes = {};
        tasks_[i].xattrs.clear();
    }
    size_ = ends_ = 0;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
