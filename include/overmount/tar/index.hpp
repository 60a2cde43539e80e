#ifndef OVERMOUNT_TAR_INDEX_HPP
#define OVERMOUNT_TAR_INDEX_HPP

#include <overmount/core/hasher.hpp>
#include <overmount/posix/file_range.hpp>
#include <overmount/tar/entry.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Writes the index of a tar: its entries in order, without data and sparse maps. The index is a cache: a reader that
// cannot use it reads the tar instead.
//
// *Format*: `overmount index 1\n`; for each entry the length of what follows, its offset in the tar, type, sparse, mode,
// uid, gid, size, stored size, seconds, nanoseconds, device, path, link target, xattrs; then a length of 0, the size
// of the tar, and the SHA-256 of everything before it. Numbers are little-endian, of 32 or 64 bits; a text is preceded
// by its length.
class index_writer
{
public:
    // \param fd written to in large pieces; must outlive this object
    explicit index_writer(int fd);

    void add(const tar::located_entry& one);
    // Writes the end of the index; to be called once, after the last entry.
    void finish(std::uint64_t tar_size);

private:
    void flush();

    int fd_;
    std::string text_; // buffered output
    hasher sum_;
};

// Reads an index through a buffer of bounded size.
class index_reader
{
public:
    // Verifies the checksum, which reads all bytes once. Returns nullopt unless they are a complete index of this version,
    // for a tar of that size.
    [[nodiscard]] static std::optional<index_reader> open(const overmount::file_range& bytes,
                                                                         std::uint64_t tar_size);

    // Reads the next entry; false after the last one. The segments of a sparse file are not in the index.
    [[nodiscard]] bool next(tar::located_entry& into);

private:
    explicit index_reader(overmount::file_range entries) : bytes_(std::move(entries)) {}
    bool fill(std::size_t count);

    overmount::file_range bytes_; // the entries
    std::uint64_t position_ = 0;
    std::vector<std::byte> buffer_;
    std::size_t begin_ = 0; // of the unread bytes in the buffer
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/index.ipp>
#endif

#endif
