#ifndef OVERMOUNT_POSIX_FILE_RANGE_HPP
#define OVERMOUNT_POSIX_FILE_RANGE_HPP

#include <overmount/posix/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// A range of bytes in a file, read by offset: a blob of a layout, or a member of an archive. Copies share the file.
///
/// *Concurrency*: not safe for one object; different threads may use different copies.
class file_range
{
public:
    /// \param file   a regular file that is open for reading
    /// \param offset of the first byte, in bytes
    /// \param size   of the range, in bytes
    file_range(std::shared_ptr<const unique_fd> file, std::uint64_t offset, std::uint64_t size)
        : file_(std::move(file)), offset_(offset), size_(size)
    {
    }
    /// The whole regular file `name` in the directory `parent`. The first read opens it, so that many ranges need no descriptors.
    ///
    /// \param size expected size of the file in bytes; `read` throws `errc::size_mismatch` if the file has another one
    file_range(std::shared_ptr<const unique_fd> parent, std::string name, std::uint64_t size);

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    /// Reads at most `into.size()` bytes from `position` in the range; blocks on the disk.
    ///
    /// *Returns*: the number of bytes read; 0 at the end. *Errors*: `truncated_stream` if the file is shorter than the range;
    /// `size_mismatch` if the file changed since it was found; errno values.
    [[nodiscard]] std::size_t read(std::uint64_t position, std::span<std::byte> into) const;

    /// Reads the whole range, for documents whose size was checked. *Errors*: like `read`.
    [[nodiscard]] std::string text() const;

    /// A part of the range: `size` bytes from `offset`.
    [[nodiscard]] file_range part(std::uint64_t offset, std::uint64_t size) const
    {
        return {file_, offset_ + offset, size};
    }

private:
    struct file_name;
    void open() const;

    std::shared_ptr<const file_name> name_; // set if the first read opens the file
    mutable std::shared_ptr<const unique_fd> file_;
    std::uint64_t offset_, size_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/posix/impl/file_range.ipp>
#endif

#endif
