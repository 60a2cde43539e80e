#ifndef OVERMOUNT_CORE_LIMITS_HPP
#define OVERMOUNT_CORE_LIMITS_HPP

#include <overmount/core/config.hpp>

#include <cstdint>

namespace overmount::OVERMOUNT_ABI {

/// Bounds on the resources that one layer, document or archive may use. Each comment names the error for its limit.
/// The defaults accept every image seen in the wild; raise them for trusted input. Sizes are in bytes.
class limits
{
public:
    // Declared so that the class is not an aggregate: GCC 12 destroys aggregate temporaries of a co_await expression twice.
    limits() = default;

    std::uint64_t entries = 1'000'000;              ///< tar entries of a layer: too_many_entries
    std::uint64_t layer_bytes = 1ull << 40;         ///< sum of a layer's file sizes, holes of sparse files included: layer_too_large
    std::uint64_t stream_bytes = 1ull << 40;        ///< uncompressed tar of a layer: layer_too_large
    std::uint64_t ratio = 1000;                     ///< uncompressed to compressed: compression_ratio_exceeded
    std::uint64_t ratio_from = 64ull << 20;         ///< `ratio` applies above this number of uncompressed bytes
    std::uint64_t extension_bytes = 1 << 20;        ///< one extension header: extension_too_large
    unsigned extensions = 32;                       ///< consecutive extension headers: extension_too_large
    std::uint64_t segments = 1'000'000;             ///< segments of a sparse file: too_many_segments
    unsigned path_bytes = 4095;                     ///< a path or link target: path_too_long
    unsigned name_bytes = 255;                      ///< one component of a path: path_too_long
    unsigned path_depth = 1000;                     ///< components of a path: path_too_deep
    std::uint64_t directory_bytes = 256ull << 20;   ///< all paths of a layer's directories: too_many_entries
    std::uint64_t tree_bytes = 1ull << 30;          ///< all strings of a merged view of layers: too_many_entries
    unsigned xattr_bytes = 65536;                   ///< one value: xattr_too_large
    std::uint64_t zstd_window = 128ull << 20;       ///< window of a zstd frame: unsupported_compression
    std::uint64_t xz_memory = 128ull << 20;         ///< memory to decode an xz stream: unsupported_compression
    std::uint64_t json_bytes = 4ull << 20;          ///< one document: json_limit_exceeded
    std::uint64_t all_json_bytes = 64ull << 20;     ///< all documents of an archive: json_limit_exceeded
    unsigned json_depth = 64;                       ///< nesting depth: json_limit_exceeded
    std::uint64_t json_values = 100'000;            ///< keys and values: json_limit_exceeded
    unsigned index_depth = 4;                       ///< nested indexes: invalid_index
    unsigned layers = 10'000;                       ///< layers of one image: invalid_manifest
    std::uint64_t member_bytes = 16ull << 20;       ///< memory for the list of an archive's members: too_many_members
    std::uint64_t candidates = 4096;                ///< candidate layers of a stream: too_many_candidates
    std::uint64_t candidate_bytes = 1ull << 40;     ///< uncompressed tars of all candidate layers: too_many_candidates
};

} // namespace overmount::OVERMOUNT_ABI

#endif
