#ifndef OVERMOUNT_TAR_WRITER_HPP
#define OVERMOUNT_TAR_WRITER_HPP

#include <overmount/core/error.hpp>
#include <overmount/tar/entry.hpp>

#include <string>

namespace overmount::inline OVERMOUNT_ABI::tar {

/// The header blocks of an entry, by libarchive: ustar, with PAX records in front of it for what ustar cannot hold.
/// The same entry gives the same bytes. Its data, `size` bytes, and zeros up to a whole block follow.
///
/// Throws `malformed_tar` for an entry that no header can hold. Sparse files have no form here, nor have fractions of
/// the last second before 1970.
OVERMOUNT_LAZY [[nodiscard]] std::string make_header(const entry& made);

/// The zeros that follow `size` bytes of data.
[[nodiscard]] inline std::string zeros_behind(std::uint64_t size) { return std::string((512 - size % 512) % 512, '\0'); }

/// The end of a tar.
[[nodiscard]] inline std::string end_marker() { return std::string(1024, '\0'); }

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/libarchive.ipp>
#endif

#endif
