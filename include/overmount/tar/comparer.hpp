#ifndef OVERMOUNT_TAR_COMPARER_HPP
#define OVERMOUNT_TAR_COMPARER_HPP

#include <overmount/core/error.hpp>
#include <overmount/tar/entry.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace overmount::OVERMOUNT_ABI::detail {

// Has libarchive parse each entry as well and compares the results. An archive that `framing` and libarchive read
// differently could be crafted to deceive one of the programs that handle the image.
//
// libarchive sees the header blocks of one entry at a time and never file data. It reads from memory only and never blocks.
class comparer
{
public:
    comparer();
    comparer(comparer&&) noexcept;
    comparer& operator=(comparer&&) noexcept;
    ~comparer();

    // Throws `errc::tar_disagreement` when libarchive sees a different type or size, or would look for the next
    // header at a different offset.
    // \param blocks     all header blocks of the entry
    // \param data_bytes bytes between these blocks and the next header, padding included
    void compare(const tar::entry& expected, std::span<const std::byte> blocks, std::uint64_t data_bytes);

private:
    struct state;
    std::unique_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/libarchive.ipp>
#endif

#endif
