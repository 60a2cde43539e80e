#ifndef OVERMOUNT_POSIX_IMPL_FILE_RANGE_IPP
#define OVERMOUNT_POSIX_IMPL_FILE_RANGE_IPP

#include <overmount/core/error.hpp>
#include <overmount/posix/file_range.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace overmount::OVERMOUNT_ABI {

struct file_range::file_name
{
    file_name(std::shared_ptr<const unique_fd> directory, std::string file) : parent(std::move(directory)), name(std::move(file)) {}
    std::shared_ptr<const unique_fd> parent;
    std::string name;
};

OVERMOUNT_DECL file_range::file_range(std::shared_ptr<const unique_fd> parent, std::string name, std::uint64_t size)
    : name_(detail::new_shared<const file_name>(std::move(parent), std::move(name))), offset_(0), size_(size)
{
}

OVERMOUNT_DECL std::size_t file_range::read(std::uint64_t position, std::span<std::byte> into) const
{
    if (position >= size_)
        return 0;
    if (!file_)
        open();
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), size_ - position));
    const std::size_t count = detail::read_some_at(file_->get(), offset_ + position, into.first(want));
    if (count == 0)
        throw error(errc::truncated_stream).at(stage::source);
    return count;
}

OVERMOUNT_DECL std::string file_range::text() const
{
    std::string out(static_cast<std::size_t>(size_), '\0');
    for (std::size_t done = 0; done < out.size();)
        done += read(done, std::as_writable_bytes(std::span(out)).subspan(done));
    return out;
}

OVERMOUNT_DECL void file_range::open() const
{
    unique_fd fd(::openat(name_->parent->get(), name_->name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    struct stat status;
    if (!fd || ::fstat(fd.get(), &status) != 0)
        throw error::from_errno(errno).at(stage::source).operation("open").subject(name_->name);
    if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) != size_)
        throw error(errc::size_mismatch).at(stage::source).subject(name_->name).detail("the file has changed: read the image again");
    file_ = detail::new_shared<const unique_fd>(std::move(fd));
}

} // namespace overmount::OVERMOUNT_ABI

#endif
