#ifndef OVERMOUNT_CORE_COMPRESSION_HPP
#define OVERMOUNT_CORE_COMPRESSION_HPP

#include <overmount/core/config.hpp>

#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// How the tar of a layer, or an archive, is compressed.
enum class compression
{
    none,
    gzip,
    zstd,
    xz,    ///< of docker archives
    bzip2, ///< of docker archives
};

/// `none`, `gzip`, `zstd`, `xz` or `bzip2`.
[[nodiscard]] inline std::string_view to_string(compression kind) noexcept
{
    switch (kind) {
    case compression::none: return "none";
    case compression::gzip: return "gzip";
    case compression::zstd: return "zstd";
    case compression::xz: return "xz";
    case compression::bzip2: return "bzip2";
    }
    return "";
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
