#ifndef OVERMOUNT_TAR_PATH_HPP
#define OVERMOUNT_TAR_PATH_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>

#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::tar {

/// A path of an archive as one below the root of its layer: no leading slash, no empty part, no `.`; empty for
/// the root itself. Names are bytes: only NUL and `/` mean something.
///
/// Throws `entry_escapes_layer` for a `..` or a NUL, `path_too_long`, `path_too_deep`. A name may be four bytes
/// longer than the limit when it starts with `.wh.`: what it deletes is not.
OVERMOUNT_LAZY [[nodiscard]] std::string normalise(std::string_view path, const limits& bounds);

/// The part in front of the last slash; empty when there is none.
[[nodiscard]] inline std::string_view parent_of(std::string_view path) noexcept
{
    const auto slash = path.rfind('/');
    return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

/// The part behind the last slash.
[[nodiscard]] inline std::string_view name_of(std::string_view path) noexcept
{
    return path.substr(path.rfind('/') + 1);
}

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/path.ipp>
#endif

#endif
