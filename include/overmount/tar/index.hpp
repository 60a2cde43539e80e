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

namespace overmount::inline OVERMOUNT_ABI::tar {

/// Writes the index of a tar: its entries in their order, without data and sparse maps. It is a cache of the tar: who
/// cannot read it reads the tar.
///
/// *Form*: `overmount index 1\n`; an entry each: the length of what follows, the offset in the tar, type, sparse, mode,
/// uid, gid, size, stored size, seconds, nanoseconds, device, path, link target, xattrs; then a length of 0, the size
/// of the tar, and the SHA-256 of all before it. Numbers are little-endian, of 32 or 64 bits; texts have their
/// length in front.
class index_writer
{
public:
    /// \param fd outlives this; written to by a piece at a time
    OVERMOUNT_LAZY explicit index_writer(int fd);

    OVERMOUNT_LAZY void add(const located_entry& one);
    /// To be called once, at the end.
    OVERMOUNT_LAZY void finish(std::uint64_t tar_size);

private:
    OVERMOUNT_LAZY void flush();

    int fd_;
    std::string text_; // not written yet
    overmount::detail::hasher sum_;
};

/// Reads an index, a piece at a time.
class index_reader
{
public:
    /// Nothing where the bytes are no whole index of this version, of a tar of that size: all of them are read for
    /// that.
    OVERMOUNT_LAZY [[nodiscard]] static std::optional<index_reader> open(const overmount::file_range& bytes,
                                                                         std::uint64_t tar_size);

    /// The next entry, or false behind the last one. A sparse file has no segments here.
    OVERMOUNT_LAZY [[nodiscard]] bool next(located_entry& into);

private:
    explicit index_reader(overmount::file_range entries) : bytes_(std::move(entries)) {}
    OVERMOUNT_LAZY bool fill(std::size_t count);

    overmount::file_range bytes_; // of the entries
    std::uint64_t position_ = 0;
    std::vector<std::byte> buffer_;
    std::size_t begin_ = 0; // of what is not taken yet
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/index.ipp>
#endif

#endif
