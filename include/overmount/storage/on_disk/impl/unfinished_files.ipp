#ifndef OVERMOUNT_STORAGE_ON_DISK_IMPL_UNFINISHED_FILES_IPP
#define OVERMOUNT_STORAGE_ON_DISK_IMPL_UNFINISHED_FILES_IPP

#include <overmount/core/error.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/storage/on_disk/unfinished_files.hpp>

#include <sys/xattr.h>
#include <unistd.h>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL std::array<timespec, 2> times_of(const tar::timestamp& time) noexcept
{
    const timespec value{static_cast<time_t>(time.seconds), static_cast<long>(time.nanoseconds)};
    return {value, value};
}

// After setxattr failed: true if the xattr is to be skipped; throws for any other failure.
inline bool is_unsupported(const tar::xattr& attribute)
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
                skipped = is_unsupported(attribute) || skipped;
        }
    }
    return skipped;
}

OVERMOUNT_DECL bool set_xattrs(int fd, const std::vector<tar::xattr>& xattrs, tar::entry_type type)
{
    return set_xattrs(xattrs, type, [fd](const tar::xattr& one) {
        return ::fsetxattr(fd, one.name.c_str(), one.value.data(), one.value.size(), 0);
    });
}

OVERMOUNT_DECL unfinished_files::task& unfinished_files::add(const std::string& entry, int fd)
{
    if (size_ == tasks_.size())
        tasks_.emplace_back();
    task& one = tasks_[size_++];
    one.entry = entry;
    one.fd = fd;
    return one;
}

OVERMOUNT_DECL void unfinished_files::data(const std::string& entry, int fd, std::uint64_t offset,
                                                std::span<const std::byte> bytes)
{
    task& one = add(entry, fd);
    one.offset = offset;
    one.bytes = bytes;
}

OVERMOUNT_DECL void unfinished_files::end(const tar::entry& entry, unique_fd&& fd, const finish_options& what)
{
    // The last task usually holds data of the same file: extend it.
    const bool same = size_ != 0 && tasks_[size_ - 1].fd == fd.get() && !tasks_[size_ - 1].owned_fd;
    task& one = same ? tasks_[size_ - 1] : add(entry.path, fd.get());
    one.what = what;
    one.mode = entry.mode;
    one.uid = entry.uid;
    one.gid = entry.gid;
    one.mtime = entry.mtime;
    one.xattrs = entry.xattrs;
    one.owned_fd = std::move(fd); // last: if a statement above throws, the caller still owns the descriptor
    ++ends_;
}

OVERMOUNT_DECL void unfinished_files::write(const task& one)
{
    std::uint64_t offset = one.offset;
    for (auto bytes = one.bytes; !bytes.empty();) {
        const ssize_t written =
            uninterrupted([&] { return ::pwrite(one.fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
        if (written < 0)
            throw_errno("write");
        offset += static_cast<std::uint64_t>(written);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

OVERMOUNT_DECL void unfinished_files::finish(const task& one)
{
    if (one.what.size)
        checked(::ftruncate(one.fd, static_cast<off_t>(*one.what.size)), "truncate");
    if (!one.what.has_owner)
        checked(::fchown(one.fd, one.uid, one.gid), "chown");
    if (!one.what.has_mode)
        checked(::fchmod(one.fd, one.mode), "chmod");
    if (set_xattrs(one.fd, one.xattrs, tar::entry_type::regular))
        *one.what.skipped_xattrs = true;
    checked(::futimens(one.fd, times_of(one.mtime).data()), "utimens");
    if (one.what.sync)
        checked(::fsync(one.fd), "fsync");
}

OVERMOUNT_DECL void unfinished_files::run()
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
            if (one.owned_fd)
                finish(one);
        } catch (error& failure) {
            failure.entry(one.entry).at(stage::extract);
            throw;
        }
        one.owned_fd.reset();
    }
}

OVERMOUNT_DECL void unfinished_files::clear() noexcept
{
    for (std::size_t i = 0; i < size_; ++i) {
        tasks_[i].owned_fd.reset();
        tasks_[i].bytes = {};
        tasks_[i].xattrs.clear();
    }
    size_ = ends_ = 0;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
