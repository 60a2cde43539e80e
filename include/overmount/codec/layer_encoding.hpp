#ifndef OVERMOUNT_CODEC_LAYER_ENCODING_HPP
#define OVERMOUNT_CODEC_LAYER_ENCODING_HPP

#include <overmount/core/compression.hpp>
#include <overmount/core/error.hpp>

#include <optional>

namespace overmount::inline OVERMOUNT_ABI {

/// How layers are compressed in what is written: `none`, `gzip` or `zstd`, and the level of the library that does it.
class layer_encoding
{
public:
    /// \param level 1 to 9 for gzip, 1 to 19 for zstd; by default 6 and 3
    ///
    /// Throws `unsupported_compression` for another kind or level.
    explicit layer_encoding(compression kind = compression::none, std::optional<int> level = std::nullopt)
        : kind_(kind), level_(level.value_or(kind == compression::gzip ? 6 : kind == compression::zstd ? 3 : 0))
    {
        const int most = kind == compression::gzip ? 9 : kind == compression::zstd ? 19 : 0;
        const bool known = kind == compression::none || most != 0;
        if (!known || level_ < (most == 0 ? 0 : 1) || level_ > most)
            throw error(errc::unsupported_compression)
                .detail("layers are written plain, by gzip with a level of 1 to 9, or by zstd with one of 1 to 19");
    }
    [[nodiscard]] compression kind() const noexcept { return kind_; }
    [[nodiscard]] int level() const noexcept { return level_; }

private:
    compression kind_;
    int level_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
