#ifndef OVERMOUNT_IO_DIFF_READER_HPP
#define OVERMOUNT_IO_DIFF_READER_HPP

#include <overmount/core/config.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace overmount::inline OVERMOUNT_ABI {

/// Gives the bytes of one diff's tar, in pieces of any size; blocks on nothing but the disk.
///
/// Guarantees: `read` gives at least one byte, or 0 at the end and from then on. Used by one thread at a time. When
/// the diff is erased meanwhile, it goes on to the end or throws `invalid_asset` or `diff_changed`; it never gives other
/// bytes.
template <class Reader>
concept diff_reader = std::movable<Reader> && requires(Reader& reader, std::span<std::byte> into) {
    { reader.read(into) } -> std::same_as<std::size_t>;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
