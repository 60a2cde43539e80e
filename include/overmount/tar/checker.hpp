#ifndef OVERMOUNT_TAR_CHECKER_HPP
#define OVERMOUNT_TAR_CHECKER_HPP

#include <overmount/core/error.hpp>
#include <overmount/tar/entry.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace overmount::inline OVERMOUNT_ABI::tar {

/// A second opinion on each entry, by libarchive: what framing and libarchive read differently may be made to
/// deceive one of the programs that handle the image.
///
/// libarchive gets the header blocks of one entry at a time, never file data, and cannot wait or read elsewhere.
class checker
{
public:
    OVERMOUNT_LAZY checker();
    checker(checker&&) noexcept;
    checker& operator=(checker&&) noexcept;
    ~checker();

    /// Throws `errc::tar_disagreement` when libarchive sees another type or size, or would look for the next
    /// header elsewhere.
    /// \param blocks     all header blocks of the entry
    /// \param data_bytes what lies between them and the next header, padding included
    OVERMOUNT_LAZY void check(const entry& expected, std::span<const std::byte> blocks, std::uint64_t data_bytes);

private:
    struct state;
    std::unique_ptr<state> state_;
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/libarchive.ipp>
#endif

#endif
