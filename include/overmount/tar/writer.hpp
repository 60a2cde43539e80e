#ifndef OVERMOUNT_TAR_WRITER_HPP
#define OVERMOUNT_TAR_WRITER_HPP

#include <overmount/core/error.hpp>
#include <overmount/tar/entry.hpp>

#include <string>

namespace overmount::OVERMOUNT_ABI::tar {

/// Makes the header blocks of an entry with libarchive: ustar, preceded by PAX records for what ustar cannot hold.
/// Equal entries give equal bytes. The caller writes `size` bytes of data after them, then `zeros_behind(size)`.
///
/// Throws `malformed_tar` for an entry that no header can represent. Sparse files are not supported.
[[nodiscard]] std::string make_header(const entry& made);

/// The zeros that pad `size` bytes of data to a whole block.
[[nodiscard]] inline std::string zeros_behind(std::uint64_t size) { return std::string((512 - size % 512) % 512, '\0'); }

/// The two zero blocks that end a tar.
[[nodiscard]] inline std::string end_marker() { return std::string(1024, '\0'); }

} // namespace overmount::OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/libarchive.ipp>
#endif

#endif
