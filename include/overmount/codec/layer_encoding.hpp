#ifndef OVERMOUNT_CODEC_LAYER_ENCODING_HPP
#define OVERMOUNT_CODEC_LAYER_ENCODING_HPP

#include <overmount/core/compression.hpp>
#include <overmount/core/error.hpp>

#include <optional>

namespace overmount::OVERMOUNT_ABI {

/// How exported layers are compressed: `none`, `gzip` or `zstd`, and the compression level of zlib or libzstd.
class layer_encoding
{
public:
    /// \param level 1 to 9 for gzip, 1 to 19 for zstd; by default 6 for gzip and 3 for zstd
    ///
    /// *Errors*: `unsupported_compression` for any other kind or level.
    explicit layer_encoding(compression kind = compression::none, std::optional<int> level = std::nullopt)
        : kind_(kind), level_(level.value_or(kind == compression::gzip ? 6 : kind == compression::zstd ? 3 : 0))
    {
        const int most = kind == compression::gzip ? 9 : kind == compression::zstd ? 19 : 0;
        const bool known = kind == compression::none || most != 0;
        if (!known || level_ < (most == 0 ? 0 : 1) || level_ > most)
            throw error(errc::unsupported_compression)
                .detail("layers can be written with none, gzip (level 1 to 9) or zstd (level 1 to 19)");
    }
    [[nodiscard]] compression kind() const noexcept { return kind_; }
    [[nodiscard]] int level() const noexcept { return level_; }

private:
    compression kind_;
    int level_;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
