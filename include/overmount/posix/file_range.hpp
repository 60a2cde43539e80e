#ifndef OVERMOUNT_POSIX_FILE_RANGE_HPP
#define OVERMOUNT_POSIX_FILE_RANGE_HPP

#include <overmount/posix/fs.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Some bytes of a file, read by offset: a blob of a layout, or a member of an archive. Copies share the file.
class file_range
{
public:
    file_range(std::shared_ptr<const unique_fd> file, std::uint64_t offset, std::uint64_t size)
        : file_(std::move(file)), offset_(offset), size_(size)
    {
    }

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    // As many bytes as there are from `position` on, at most `into`; 0 at the end.
    OVERMOUNT_LAZY [[nodiscard]] std::size_t read(std::uint64_t position, std::span<std::byte> into) const
    {
        if (position >= size_)
            return 0;
        const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), size_ - position));
        for (;;) {
            const ssize_t count =
                ::pread(file_->get(), into.data(), want, static_cast<off_t>(offset_ + position));
            if (count > 0)
                return static_cast<std::size_t>(count);
            if (count == 0)
                throw error(errc::truncated_stream).at(stage::source);
            if (errno != EINTR)
                throw_errno("read");
        }
    }

    // All of it; for documents, whose size was checked.
    OVERMOUNT_LAZY [[nodiscard]] std::string text() const
    {
        std::string out(static_cast<std::size_t>(size_), '\0');
        for (std::size_t done = 0; done < out.size();)
            done += read(done, std::as_writable_bytes(std::span(out)).subspan(done));
        return out;
    }

    // Gives up the file: nothing is read any more.
    void close() noexcept { file_.reset(); }

    // A part of it.
    OVERMOUNT_LAZY [[nodiscard]] file_range part(std::uint64_t offset, std::uint64_t size) const
    {
        return {file_, offset_ + offset, size};
    }

private:
    std::shared_ptr<const unique_fd> file_;
    std::uint64_t offset_, size_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
