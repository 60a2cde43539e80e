#ifndef OVERMOUNT_TAR_PATH_HPP
#define OVERMOUNT_TAR_PATH_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>

#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::tar {

/// Turns the path of an archive entry into a path relative to the root of its layer: no leading slash, no empty component,
/// no `.`; the root itself is the empty path. Names are bytes: only NUL and `/` are special.
///
/// Throws `entry_escapes_layer` for a `..` or a NUL, `path_too_long`, `path_too_deep`. A name that starts with `.wh.` may
/// be four bytes longer than the limit, since the name that it deletes is within the limit.
[[nodiscard]] std::string normalise(std::string_view path, const limits& bounds);

/// The part before the last slash; empty when there is none.
[[nodiscard]] inline std::string_view parent_of(std::string_view path) noexcept
{
    const auto slash = path.rfind('/');
    return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

/// The part after the last slash.
[[nodiscard]] inline std::string_view name_of(std::string_view path) noexcept
{
    return path.substr(path.rfind('/') + 1);
}

} // namespace overmount::OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/path.ipp>
#endif

#endif
