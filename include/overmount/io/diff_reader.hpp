#ifndef OVERMOUNT_IO_DIFF_READER_HPP
#define OVERMOUNT_IO_DIFF_READER_HPP

#include <overmount/core/config.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace overmount::OVERMOUNT_ABI {

/// Reads the tar of one diff, in pieces of any size. It blocks only on the disk.
///
/// Guarantees: `read` returns the number of bytes read, at least one, or 0 at the end and in all later calls. One thread at a time
/// uses the reader. If the diff is erased meanwhile, the reader continues to the end or throws `invalid_asset` or `diff_changed`;
/// it never returns wrong bytes.
template <class Reader>
concept diff_reader = std::movable<Reader> && requires(Reader& reader, std::span<std::byte> into) {
    { reader.read(into) } -> std::same_as<std::size_t>;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
