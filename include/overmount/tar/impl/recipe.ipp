#ifndef OVERMOUNT_TAR_IMPL_RECIPE_IPP
#define OVERMOUNT_TAR_IMPL_RECIPE_IPP

#include <overmount/tar/recipe.hpp>

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The magic, a version, and the header of the single zstd frame that follows: with a checksum, a window of 256 KiB
// (enough, since similar tar headers are close together) and no content size. Other frame headers, which libzstd might
// accept, are refused. See RFC 8878, section 3.1.1.1.
inline constexpr std::string_view recipe_head("overmount recipe\x01\x28\xb5\x2f\xfd\x04\x40", 23);
inline constexpr std::size_t recipe_version_offset = 16, recipe_frame_offset = 17;
inline constexpr int recipe_window_log = 18;

inline constexpr std::size_t recipe_buffer = 64 * 1024, max_recipe_run = 0xffff;
inline constexpr std::size_t max_recipe_path = 16 * 1024; // longer than any path of a file system
inline constexpr std::uint64_t max_tar_size = std::uint64_t{1} << 62;

enum class recipe_code : unsigned char
{
    end,
    bytes,
    file,
    piece,
    end_file,
    moved,
};

[[noreturn]] inline void throw_bad_recipe(const char* problem)
{
    throw error(errc::invalid_asset).at(stage::storage).operation("read recipe").detail(problem);
}

inline void check_zstd(std::size_t code)
{
    if (::ZSTD_isError(code))
        throw_bad_recipe(::ZSTD_getErrorName(code));
}

OVERMOUNT_DECL void recipe_writer::release::operator()(ZSTD_CCtx_s* context) const noexcept
{
    ::ZSTD_freeCCtx(context);
}

// The context that this thread keeps between two recipes. It has some hundred KiB of tables and buffers; creating it for each
// of many small layers costs more than compressing their recipes.
OVERMOUNT_DECL recipe_writer::compressor& recipe_writer::thread_compressor() noexcept
{
    thread_local compressor mine;
    return mine;
}

OVERMOUNT_DECL recipe_writer::compressor recipe_writer::make_compressor()
{
    compressor out(::ZSTD_createCCtx());
    if (!out)
        throw std::bad_alloc();
    for (const auto& [parameter, value] :
         {std::pair(ZSTD_c_compressionLevel, 1), std::pair(ZSTD_c_windowLog, recipe_window_log),
          std::pair(ZSTD_c_checksumFlag, 1), std::pair(ZSTD_c_contentSizeFlag, 0)})
        if (::ZSTD_isError(::ZSTD_CCtx_setParameter(out.get(), parameter, value)))
            throw std::bad_alloc();
    return out;
}

OVERMOUNT_DECL recipe_writer::recipe_writer(std::function<void(std::span<const std::byte>)> output)
    : output_(std::move(output))
{
    plain_.reserve(recipe_buffer + max_recipe_path);
}

// Base 128, the lowest seven bits first.
OVERMOUNT_DECL void recipe_writer::number(std::uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        plain_.push_back(static_cast<std::byte>(value | 0x80));
    plain_.push_back(static_cast<std::byte>(value));
}

OVERMOUNT_DECL void recipe_writer::text(std::string_view value)
{
    if (value.size() > max_recipe_path)
        throw error(errc::path_too_long);
    number(value.size());
    const auto bytes = std::as_bytes(std::span(value));
    plain_.insert(plain_.end(), bytes.begin(), bytes.end());
}

OVERMOUNT_DECL void recipe_writer::begin(char what)
{
    run_ = 0;
    // Where the input of zstd is split depends only on the steps so far, so that equal steps give equal compressed bytes.
    if (plain_.size() >= recipe_buffer)
        compress(false);
    plain_.push_back(static_cast<std::byte>(what));
}

OVERMOUNT_DECL void recipe_writer::bytes(std::span<const std::byte> bytes)
{
    total_ += bytes.size();
    while (!bytes.empty()) {
        if (run_ == 0 || plain_.size() - run_ - 2 == max_recipe_run ||
            plain_.size() >= recipe_buffer) {
            begin(static_cast<char>(recipe_code::bytes));
            run_ = plain_.size();
            plain_.resize(run_ + 2);
        }
        const std::size_t before = plain_.size() - run_ - 2;
        // At least one byte, so that no run is empty.
        const std::size_t room = std::max<std::size_t>(
            plain_.size() < recipe_buffer ? recipe_buffer - plain_.size() : 0, 1);
        const auto part = bytes.first(std::min({bytes.size(), max_recipe_run - before, room}));
        plain_.insert(plain_.end(), part.begin(), part.end());
        bytes = bytes.subspan(part.size());
        const std::size_t size = before + part.size();
        plain_[run_] = static_cast<std::byte>(size);
        plain_[run_ + 1] = static_cast<std::byte>(size >> 8);
    }
}

OVERMOUNT_DECL void recipe_writer::file(std::string_view path, std::uint64_t size)
{
    begin(static_cast<char>(recipe_code::file));
    text(path);
    number(size);
    piece_offset_ = piece_size_ = piece_end_ = 0;
}

// Adjacent pieces are merged: where they are split depends on how the tar arrived.
OVERMOUNT_DECL void recipe_writer::piece(std::uint64_t offset, std::uint64_t count)
{
    total_ += count;
    if (piece_size_ != 0 && offset != piece_offset_ + piece_size_)
        flush_piece();
    if (piece_size_ == 0)
        piece_offset_ = offset;
    piece_size_ += count;
}

OVERMOUNT_DECL void recipe_writer::flush_piece()
{
    begin(static_cast<char>(recipe_code::piece));
    number(piece_offset_ - piece_end_);
    number(piece_size_);
    piece_end_ = piece_offset_ + std::exchange(piece_size_, 0);
}

OVERMOUNT_DECL void recipe_writer::end_file(std::uint32_t crc)
{
    flush_piece();
    begin(static_cast<char>(recipe_code::end_file));
    for (int shift = 0; shift < 32; shift += 8)
        plain_.push_back(static_cast<std::byte>(crc >> shift));
}

OVERMOUNT_DECL void recipe_writer::moved(std::string_view path)
{
    begin(static_cast<char>(recipe_code::moved));
    text(path);
}

OVERMOUNT_DECL void recipe_writer::finish()
{
    begin(static_cast<char>(recipe_code::end));
    number(total_);
    compress(true);
}

OVERMOUNT_DECL void recipe_writer::compress(bool last)
{
    const bool first = !context_;
    if (first)
        context_ = thread_compressor() ? std::move(thread_compressor()) : make_compressor();
    std::array<std::byte, 16 * 1024> packed;
    ZSTD_inBuffer in{plain_.data(), plain_.size(), 0};
    ZSTD_outBuffer out{packed.data(), packed.size(), 0};
    const auto put = [&] {
        if (out.pos != 0)
            output_(std::span<const std::byte>(packed).first(std::exchange(out.pos, 0)));
    };
    const auto step = [&](ZSTD_EndDirective how) {
        if (out.pos == out.size)
            put();
        const auto left = ::ZSTD_compressStream2(context_.get(), &out, &in, how);
        if (::ZSTD_isError(left)) // lack of memory is the only possible cause
            throw std::bad_alloc();
        return left;
    };
    // zstd writes the header of its frame itself.
    if (first)
        out.pos = recipe_head.copy(reinterpret_cast<char*>(packed.data()), recipe_frame_offset);
    // End the frame in a separate step: if zstd knew the size in advance, it would choose a smaller window.
    while (in.pos != in.size)
        step(ZSTD_e_continue);
    while (last && step(ZSTD_e_end) != 0) {
    }
    put();
    plain_.clear();
    if (last)
        thread_compressor() = std::move(context_); // can be reused: after the end of a frame it holds only its parameters
}

OVERMOUNT_DECL void recipe_reader::release::operator()(ZSTD_DCtx_s* context) const noexcept
{
    ::ZSTD_freeDCtx(context);
}

OVERMOUNT_DECL recipe_reader::recipe_reader(std::function<std::size_t(std::span<std::byte>)> input)
    : input_(std::move(input)), context_(::ZSTD_createDCtx()), packed_(recipe_buffer),
      plain_(2 * recipe_buffer)
{
    if (!context_)
        throw std::bad_alloc();
}

OVERMOUNT_DECL void recipe_reader::read_head()
{
    while (packed_end_ < recipe_head.size()) {
        const std::size_t count = input_(std::span(packed_).subspan(packed_end_));
        if (count == 0)
            throw_bad_recipe("the recipe is truncated");
        packed_end_ += count;
    }
    const std::string_view head(reinterpret_cast<const char*>(packed_.data()), recipe_head.size());
    const auto name = head.substr(0, recipe_version_offset);
    if (name == recipe_head.substr(0, recipe_version_offset) &&
        head[recipe_version_offset] > recipe_head[recipe_version_offset])
        throw error(errc::unsupported_repository).at(stage::storage).operation("read recipe");
    if (head != recipe_head)
        throw_bad_recipe("this is not a recipe");
    packed_at_ = recipe_frame_offset;
}

// Decompresses more bytes, appending them to those not yet used; false at the end of the frame.
OVERMOUNT_DECL bool recipe_reader::decompress()
{
    if (plain_at_ != 0) {
        std::memmove(plain_.data(), plain_.data() + plain_at_, plain_end_ - plain_at_);
        plain_end_ -= std::exchange(plain_at_, 0);
    }
    const std::size_t before = plain_end_;
    while (plain_end_ == before && !frame_ended_) {
        // If the output buffer was full, zstd may have more output without new input.
        if (packed_at_ == packed_end_ && !output_pending_) {
            packed_at_ = 0;
            packed_end_ = input_(packed_);
            if (packed_end_ == 0)
                throw_bad_recipe("the recipe is truncated");
        }
        ZSTD_inBuffer in{packed_.data(), packed_end_, packed_at_};
        ZSTD_outBuffer out{plain_.data(), plain_.size(), plain_end_};
        const std::size_t left = ::ZSTD_decompressStream(context_.get(), &out, &in);
        check_zstd(left);
        packed_at_ = in.pos;
        plain_end_ = out.pos;
        output_pending_ = out.pos == out.size;
        frame_ended_ = left == 0;
    }
    return plain_end_ != before;
}

OVERMOUNT_DECL void recipe_reader::need(std::size_t count)
{
    while (plain_end_ - plain_at_ < count)
        if (!decompress())
            throw_bad_recipe("the recipe ends in the middle of a step");
}

OVERMOUNT_DECL std::byte recipe_reader::byte()
{
    need(1);
    return plain_[plain_at_++];
}

OVERMOUNT_DECL std::uint64_t recipe_reader::number()
{
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        const auto bits = std::to_integer<std::uint64_t>(byte());
        value |= (bits & 0x7f) << shift;
        if (bits < 0x80)
            return value;
    }
    throw_bad_recipe("a number is too large");
}

OVERMOUNT_DECL void recipe_reader::read_path()
{
    const std::uint64_t size = number();
    if (size == 0 || size > max_recipe_path)
        throw_bad_recipe("a path is empty or too long");
    need(static_cast<std::size_t>(size));
    path_.assign(reinterpret_cast<const char*>(plain_.data()) + plain_at_, static_cast<std::size_t>(size));
    plain_at_ += path_.size();
    if (path_.find('\0') != std::string::npos)
        throw_bad_recipe("a path contains a NUL byte");
    for (std::size_t at = 0; at <= path_.size();) {
        const std::size_t end = std::min(path_.find('/', at), path_.size());
        const auto name = std::string_view(path_).substr(at, end - at);
        if (name.empty() || name == "." || name == "..")
            throw_bad_recipe("a path has an empty component, . or ..");
        at = end + 1;
    }
}

OVERMOUNT_DECL void recipe_reader::add(std::uint64_t count)
{
    if (count > max_tar_size - total_)
        throw_bad_recipe("the tar is too large");
    total_ += count;
}

OVERMOUNT_DECL recipe_step recipe_reader::read_bytes()
{
    need(1);
    bytes_ = std::span<const std::byte>(plain_).subspan(plain_at_, std::min(run_left_, plain_end_ - plain_at_));
    run_left_ -= bytes_.size();
    plain_at_ += bytes_.size();
    return recipe_step::bytes;
}

OVERMOUNT_DECL void recipe_reader::read_piece()
{
    const std::uint64_t gap = number();
    count_ = number();
    const std::uint64_t room = size_ - file_end_;
    if (count_ == 0 || gap > room || count_ > room - gap)
        throw_bad_recipe("a piece is empty or exceeds the size of its file");
    offset_ = file_end_ + gap;
    file_end_ = offset_ + count_;
    add(count_);
}

OVERMOUNT_DECL recipe_step recipe_reader::next()
{
    if (state_ == state::ended)
        return recipe_step::end;
    if (packed_end_ == 0)
        read_head();
    if (run_left_ != 0)
        return read_bytes();
    const auto code = static_cast<recipe_code>(byte());
    const bool outside = state_ == state::outside_file;
    if (code == recipe_code::bytes && outside) {
        const auto low = std::to_integer<std::size_t>(byte());
        run_left_ = low | std::to_integer<std::size_t>(byte()) << 8;
        if (run_left_ == 0)
            throw_bad_recipe("a run of bytes is empty");
        add(run_left_);
        return read_bytes();
    }
    if (code == recipe_code::file && outside) {
        read_path();
        size_ = number();
        file_end_ = 0;
        state_ = state::in_file;
        return recipe_step::file;
    }
    if (code == recipe_code::piece && !outside) {
        read_piece();
        state_ = state::in_pieces;
        return recipe_step::piece;
    }
    if (code == recipe_code::end_file && state_ == state::in_pieces) {
        crc_ = 0;
        for (int shift = 0; shift < 32; shift += 8)
            crc_ |= std::to_integer<std::uint32_t>(byte()) << shift;
        state_ = state::outside_file;
        return recipe_step::end_file;
    }
    if (code == recipe_code::moved && outside) {
        read_path();
        return recipe_step::moved;
    }
    if (code != recipe_code::end || !outside)
        throw_bad_recipe("a step is unknown or out of order");
    finish();
    return recipe_step::end;
}

OVERMOUNT_DECL void recipe_reader::finish()
{
    if (number() != total_)
        throw_bad_recipe("the size of the tar does not match its parts");
    // The checksum at the end of the frame is verified when decompression reaches it.
    if (plain_at_ != plain_end_ || decompress())
        throw_bad_recipe("there are bytes after the end of the recipe");
    if (packed_at_ != packed_end_ || input_(packed_) != 0)
        throw_bad_recipe("there are bytes after the end of the recipe");
    state_ = state::ended;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
