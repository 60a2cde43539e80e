#ifndef OVERMOUNT_TAR_RECIPE_HPP
#define OVERMOUNT_TAR_RECIPE_HPP

#include <overmount/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace overmount::inline OVERMOUNT_ABI::tar {

/// Writes a recipe: what is needed beside the unpacked tree to give a tar back bit for bit. That is all bytes that
/// are not data of a file, and for those which part of which file has them.
///
/// A recipe does not depend on how the tar is cut into pieces. Takes a fixed amount of memory; what zstd works with stays with
/// the thread that finished, for its next recipe. Not thread-safe.
/// See docs/design/recipe.md for the format.
class recipe_writer
{
public:
    /// \param output takes the bytes of the recipe, as they come; what it throws passes through
    OVERMOUNT_LAZY explicit recipe_writer(std::function<void(std::span<const std::byte>)> output);

    /// The next bytes of the tar, none of which are data of a file in the tree.
    OVERMOUNT_LAZY void bytes(std::span<const std::byte> bytes);
    /// The bytes that follow are data of a file: pieces of it, then `end_file`.
    /// \param path where it is in the tree, without links; as it is now
    /// \param size of the whole file, holes included
    OVERMOUNT_LAZY void file(std::string_view path, std::uint64_t size);
    /// The next bytes of the tar are `count` bytes of the file at hand from `offset` on. Offsets ascend.
    OVERMOUNT_LAZY void piece(std::uint64_t offset, std::uint64_t count);
    /// \param crc CRC-32C of the file's pieces, one after the other
    OVERMOUNT_LAZY void end_file(std::uint32_t crc);
    /// The file or directory `path` was moved out of the tree, with all in it. Of several the first is number 0.
    OVERMOUNT_LAZY void moved(std::string_view path);
    /// The tar is over.
    OVERMOUNT_LAZY void finish();

private:
    struct release
    {
        void operator()(ZSTD_CCtx_s* context) const noexcept;
    };
    OVERMOUNT_LAZY void number(std::uint64_t value);
    OVERMOUNT_LAZY void text(std::string_view value);
    OVERMOUNT_LAZY void begin(char what);
    OVERMOUNT_LAZY void flush_piece();
    using packer = std::unique_ptr<ZSTD_CCtx_s, release>;
    OVERMOUNT_LAZY static packer& spare() noexcept;
    OVERMOUNT_LAZY static packer make_packer();
    OVERMOUNT_LAZY void compress(bool last);

    std::function<void(std::span<const std::byte>)> output_;
    packer context_;
    std::vector<std::byte> plain_;
    std::size_t run_ = 0; // where the length of the run of bytes at hand is in `plain_`; 0: there is none
    std::uint64_t total_ = 0, piece_offset_ = 0, piece_size_ = 0, piece_end_ = 0;
};

/// What `recipe_reader::next` came upon; the calls of `recipe_writer`.
enum class recipe_step : unsigned char
{
    bytes,    ///< `bytes()`
    file,     ///< `path()`, `size()`; pieces of it follow, then `end_file`
    piece,    ///< `offset()`, `count()`
    end_file, ///< `crc()`
    moved,    ///< `path()`
    end,      ///< the recipe is whole
};

/// Reads a recipe, strictly, with a fixed amount of memory. Not thread-safe.
///
/// Paths are relative, without empty parts, `.` and `..`; pieces lie within their file, in order; each file has
/// at least one. That the recipe as a whole is undamaged is known at its end.
///
/// Throws `errc::invalid_asset` for what is no recipe, or a damaged one; `errc::unsupported_repository` for one of
/// a newer version. After an error it can only be destroyed.
class recipe_reader
{
public:
    /// \param input fills a part of the buffer that it gets, at least a byte; 0 at the end of the recipe
    OVERMOUNT_LAZY explicit recipe_reader(std::function<std::size_t(std::span<std::byte>)> input);

    OVERMOUNT_LAZY [[nodiscard]] recipe_step next();

    /// The bytes of `recipe_step::bytes`, until the next call.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] std::uint32_t crc() const noexcept { return crc_; }

private:
    struct release
    {
        void operator()(ZSTD_DCtx_s* context) const noexcept;
    };
    enum class place : unsigned char
    {
        outside,
        in_file,    // before its first piece
        in_pieces,
        over,
    };

    OVERMOUNT_LAZY void read_head();
    OVERMOUNT_LAZY bool decompress();
    OVERMOUNT_LAZY void need(std::size_t count);
    OVERMOUNT_LAZY std::byte byte();
    OVERMOUNT_LAZY std::uint64_t number();
    OVERMOUNT_LAZY void read_path();
    OVERMOUNT_LAZY recipe_step read_bytes();
    OVERMOUNT_LAZY void read_piece();
    OVERMOUNT_LAZY void add(std::uint64_t count);
    OVERMOUNT_LAZY void finish();

    std::function<std::size_t(std::span<std::byte>)> input_;
    std::unique_ptr<ZSTD_DCtx_s, release> context_;
    std::vector<std::byte> packed_, plain_;
    std::size_t packed_at_ = 0, packed_end_ = 0, plain_at_ = 0, plain_end_ = 0;
    bool frame_over_ = false, held_back_ = false;
    place place_ = place::outside;
    std::size_t run_left_ = 0; // of a run of bytes
    std::uint64_t total_ = 0, file_end_ = 0;

    std::span<const std::byte> bytes_;
    std::string path_;
    std::uint64_t size_ = 0, offset_ = 0, count_ = 0;
    std::uint32_t crc_ = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/recipe.ipp>
#endif

#endif
