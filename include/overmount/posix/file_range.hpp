#ifndef OVERMOUNT_POSIX_FILE_RANGE_HPP
#define OVERMOUNT_POSIX_FILE_RANGE_HPP

#include <overmount/posix/fs.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace overmount::inline OVERMOUNT_ABI {

/// Some bytes of a file, read by offset: a blob of a layout, or a member of an archive. Copies share the file.
///
/// *Concurrency*: one object is not for two threads at once; copies are.
class file_range
{
public:
    /// \param file   a regular file, open for reading
    /// \param offset of the first byte, in bytes
    /// \param size   in bytes
    file_range(std::shared_ptr<const unique_fd> file, std::uint64_t offset, std::uint64_t size)
        : file_(std::move(file)), offset_(offset), size_(size)
    {
    }
    /// All of the regular file `name` in the directory `parent`. It is opened when it is first read, so that many ranges are no
    /// more than their names.
    ///
    /// \param size that it must have then, in bytes: else `read` throws `errc::size_mismatch`
    OVERMOUNT_LAZY file_range(std::shared_ptr<const unique_fd> parent, std::string name, std::uint64_t size)
        : name_(detail::new_shared<const named>(std::move(parent), std::move(name))), offset_(0), size_(size)
    {
    }

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    /// Reads what there is from `position` on, at most `into`; blocks on the disk.
    ///
    /// *Returns*: the number of bytes; 0 at the end. *Errors*: `truncated_stream` where the file is shorter; `size_mismatch`;
    /// errno values.
    OVERMOUNT_LAZY [[nodiscard]] std::size_t read(std::uint64_t position, std::span<std::byte> into) const
    {
        if (position >= size_)
            return 0;
        if (!file_)
            open();
        const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), size_ - position));
        for (;;) {
            const ssize_t count =
                ::pread(file_->get(), into.data(), want, static_cast<off_t>(offset_ + position));
            if (count > 0)
                return static_cast<std::size_t>(count);
            if (count == 0)
                throw error(errc::truncated_stream).at(stage::source);
            if (errno != EINTR)
                detail::throw_errno("read");
        }
    }

    /// All of it, for documents whose size was checked. *Errors*: as `read`.
    OVERMOUNT_LAZY [[nodiscard]] std::string text() const
    {
        std::string out(static_cast<std::size_t>(size_), '\0');
        for (std::size_t done = 0; done < out.size();)
            done += read(done, std::as_writable_bytes(std::span(out)).subspan(done));
        return out;
    }

    /// `size` bytes of it, from `offset` on.
    OVERMOUNT_LAZY [[nodiscard]] file_range part(std::uint64_t offset, std::uint64_t size) const
    {
        return {file_, offset_ + offset, size};
    }

private:
    struct named
    {
        named(std::shared_ptr<const unique_fd> directory, std::string file)
            : parent(std::move(directory)), name(std::move(file))
        {
        }
        std::shared_ptr<const unique_fd> parent;
        std::string name;
    };
    OVERMOUNT_LAZY void open() const
    {
        unique_fd fd(::openat(name_->parent->get(), name_->name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
        struct stat status;
        if (!fd || ::fstat(fd.get(), &status) != 0)
            throw error::from_errno(errno).at(stage::source).operation("open").subject(name_->name);
        if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) != size_)
            throw error(errc::size_mismatch).at(stage::source).subject(name_->name).detail("it has changed");
        file_ = detail::new_shared<const unique_fd>(std::move(fd));
    }

    std::shared_ptr<const named> name_; // where the file is opened late
    mutable std::shared_ptr<const unique_fd> file_;
    std::uint64_t offset_, size_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
