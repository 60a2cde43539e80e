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

namespace overmount::OVERMOUNT_ABI::detail {

// Writes a recipe: what is needed, in addition to the unpacked tree, to rebuild a tar bit for bit. It holds all bytes
// that are not file data, and for file data the file and range that they are in.
//
// The recipe does not depend on the pieces in which the tar arrives. Memory is bounded; the thread that calls `finish` keeps
// the zstd context for its next recipe. Not thread-safe.
// See docs/design/recipe.md for the format.
class recipe_writer
{
public:
    // \param output gets the bytes of the recipe as they are produced; its exceptions are passed on
    explicit recipe_writer(std::function<void(std::span<const std::byte>)> output);

    // Adds the next bytes of the tar, none of which are data of a file in the tree.
    void bytes(std::span<const std::byte> bytes);
    // Begins the data of a file: the next calls are `piece`, at least once, then `end_file`.
    // \param path current path of the file in the tree; no component is a symbolic link
    // \param size of the whole file in bytes, holes included
    void file(std::string_view path, std::uint64_t size);
    // The next bytes of the tar are `count` bytes of the current file, starting at `offset`. Offsets ascend.
    void piece(std::uint64_t offset, std::uint64_t count);
    // \param crc CRC-32C of the concatenated pieces of the file
    void end_file(std::uint32_t crc);
    // The file or directory `path` was moved out of the tree, with its contents. Moved items are numbered from 0.
    void moved(std::string_view path);
    // Ends the recipe; to be called once, at the end of the tar.
    void finish();

private:
    struct release
    {
        void operator()(ZSTD_CCtx_s* context) const noexcept;
    };
    void number(std::uint64_t value);
    void text(std::string_view value);
    void begin(char what);
    void flush_piece();
    using compressor = std::unique_ptr<ZSTD_CCtx_s, release>;
    static compressor& thread_compressor() noexcept;
    static compressor make_compressor();
    void compress(bool last);

    std::function<void(std::span<const std::byte>)> output_;
    compressor context_;
    std::vector<std::byte> plain_;
    std::size_t run_ = 0; // offset in `plain_` of the length of the current run of bytes; 0: no run is open
    std::uint64_t total_ = 0, piece_offset_ = 0, piece_size_ = 0, piece_end_ = 0;
};

// What `recipe_reader::next` found. The values correspond to the calls of `recipe_writer`.
enum class recipe_step : unsigned char
{
    bytes,    //< see `bytes()`
    file,     //< see `path()`, `size()`; its pieces follow, then `end_file`
    piece,    //< see `offset()`, `count()`
    end_file, //< see `crc()`
    moved,    //< see `path()`
    end,      //< the end; the whole recipe was checked
};

// Reads a recipe strictly, in bounded memory. Not thread-safe.
//
// It guarantees that paths are relative, without empty components, `.` and `..`; that pieces are in order and within
// their file; and that each file has at least one piece. Only `recipe_step::end` says that the whole recipe is undamaged.
//
// Throws `errc::invalid_asset` if the input is not a recipe or is damaged; `errc::unsupported_repository` for a recipe
// of a newer version. After an error it can only be destroyed.
class recipe_reader
{
public:
    // \param input reads at least one byte into the buffer and returns the number of bytes; 0 at the end of the recipe
    explicit recipe_reader(std::function<std::size_t(std::span<std::byte>)> input);

    [[nodiscard]] recipe_step next();

    // The bytes of `recipe_step::bytes`; valid until the next call of `next`.
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
    enum class state : unsigned char
    {
        outside_file,
        in_file,    // before its first piece
        in_pieces,
        ended,
    };

    void read_head();
    bool decompress();
    void need(std::size_t count);
    std::byte byte();
    std::uint64_t number();
    void read_path();
    recipe_step read_bytes();
    void read_piece();
    void add(std::uint64_t count);
    void finish();

    std::function<std::size_t(std::span<std::byte>)> input_;
    std::unique_ptr<ZSTD_DCtx_s, release> context_;
    std::vector<std::byte> packed_, plain_;
    std::size_t packed_at_ = 0, packed_end_ = 0, plain_at_ = 0, plain_end_ = 0;
    bool frame_ended_ = false, output_pending_ = false;
    state state_ = state::outside_file;
    std::size_t run_left_ = 0; // bytes left in the current run
    std::uint64_t total_ = 0, file_end_ = 0;

    std::span<const std::byte> bytes_;
    std::string path_;
    std::uint64_t size_ = 0, offset_ = 0, count_ = 0;
    std::uint32_t crc_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/recipe.ipp>
#endif

#endif
