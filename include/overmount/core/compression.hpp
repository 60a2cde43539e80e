#ifndef OVERMOUNT_CORE_COMPRESSION_HPP
#define OVERMOUNT_CORE_COMPRESSION_HPP

#include <overmount/core/config.hpp>

#include <string_view>

namespace overmount::OVERMOUNT_ABI {

/// The compression of a layer's tar or of an archive.
enum class compression
{
    none,
    gzip,
    zstd,
    xz,    ///< only in docker archives
    bzip2, ///< only in docker archives
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

} // namespace overmount::OVERMOUNT_ABI

#endif
