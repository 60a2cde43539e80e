#ifndef OVERMOUNT_COMPRESSION_HPP
#define OVERMOUNT_COMPRESSION_HPP

#include <overmount/detail/config.hpp>

#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// How the tar of a layer is compressed.
enum class compression
{
    none,
    gzip,
    zstd,
};

/// `none`, `gzip` or `zstd`.
[[nodiscard]] inline std::string_view to_string(compression kind) noexcept
{
    switch (kind) {
    case compression::none: return "none";
    case compression::gzip: return "gzip";
    case compression::zstd: return "zstd";
    }
    return "";
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
