#ifndef OVERMOUNT_TAR_IMPL_RECIPE_IPP
#define OVERMOUNT_TAR_IMPL_RECIPE_IPP

#include <overmount/tar/recipe.hpp>

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::tar {
namespace detail {

// The name, a version, and the header of the one zstd frame that follows: with a checksum, a window of 256 KiB
// (headers that resemble each other are neighbours) and no size. Frames of any other kind, which libzstd might read
// as well, do not count. See RFC 8878, section 3.1.1.1.
inline constexpr std::string_view recipe_head("overmount recipe\x01\x28\xb5\x2f\xfd\x04\x40", 23);
inline constexpr std::size_t recipe_version_at = 16, recipe_frame_at = 17;
inline constexpr int recipe_window_log = 18;

inline constexpr std::size_t recipe_buffer = 64 * 1024, recipe_run = 0xffff;
inline constexpr std::size_t recipe_path = 16 * 1024; // more than any file system has
inline constexpr std::uint64_t recipe_total = std::uint64_t{1} << 62;

enum class recipe_code : unsigned char
{
    end,
    bytes,
    file,
    piece,
    end_file,
    moved,
};

OVERMOUNT_LAZY [[noreturn]] inline void bad_recipe(const char* words)
{
    throw error(errc::invalid_asset).at(stage::storage).operation("read recipe").detail(words);
}

OVERMOUNT_LAZY inline void check_zstd(std::size_t code)
{
    if (::ZSTD_isError(code))
        bad_recipe(::ZSTD_getErrorName(code));
}

} // namespace detail

OVERMOUNT_DECL void recipe_writer::release::operator()(ZSTD_CCtx_s* context) const noexcept
{
    ::ZSTD_freeCCtx(context);
}

// What zstd works with is some hundred KiB of tables and buffers: to make it for each of many small layers costs more
// than to pack their recipes. A thread keeps one between two recipes.
OVERMOUNT_LAZY_BODY recipe_writer::packer& recipe_writer::spare() noexcept
{
    thread_local packer mine;
    return mine;
}

OVERMOUNT_LAZY_BODY recipe_writer::packer recipe_writer::make_packer()
{
    packer out(::ZSTD_createCCtx());
    if (!out)
        throw std::bad_alloc();
    for (const auto& [parameter, value] :
         {std::pair(ZSTD_c_compressionLevel, 1), std::pair(ZSTD_c_windowLog, detail::recipe_window_log),
          std::pair(ZSTD_c_checksumFlag, 1), std::pair(ZSTD_c_contentSizeFlag, 0)})
        if (::ZSTD_isError(::ZSTD_CCtx_setParameter(out.get(), parameter, value)))
            throw std::bad_alloc();
    return out;
}

OVERMOUNT_LAZY_BODY recipe_writer::recipe_writer(std::function<void(std::span<const std::byte>)> output)
    : output_(std::move(output))
{
    plain_.reserve(detail::recipe_buffer + detail::recipe_path);
}

// Base 128, the lowest seven bits first.
OVERMOUNT_LAZY_BODY void recipe_writer::number(std::uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        plain_.push_back(static_cast<std::byte>(value | 0x80));
    plain_.push_back(static_cast<std::byte>(value));
}

OVERMOUNT_LAZY_BODY void recipe_writer::text(std::string_view value)
{
    if (value.size() > detail::recipe_path)
        throw error(errc::path_too_long);
    number(value.size());
    const auto bytes = std::as_bytes(std::span(value));
    plain_.insert(plain_.end(), bytes.begin(), bytes.end());
}

OVERMOUNT_LAZY_BODY void recipe_writer::begin(char what)
{
    run_ = 0;
    // Where it is cut depends only on what was said before, so that the compressed bytes do, too.
    if (plain_.size() >= detail::recipe_buffer)
        compress(false);
    plain_.push_back(static_cast<std::byte>(what));
}

OVERMOUNT_LAZY_BODY void recipe_writer::bytes(std::span<const std::byte> bytes)
{
    total_ += bytes.size();
    while (!bytes.empty()) {
        if (run_ == 0 || plain_.size() - run_ - 2 == detail::recipe_run ||
            plain_.size() >= detail::recipe_buffer) {
            begin(static_cast<char>(detail::recipe_code::bytes));
            run_ = plain_.size();
            plain_.resize(run_ + 2);
        }
        const std::size_t before = plain_.size() - run_ - 2;
        // At least a byte, so that no run is empty.
        const std::size_t room = std::max<std::size_t>(
            plain_.size() < detail::recipe_buffer ? detail::recipe_buffer - plain_.size() : 0, 1);
        const auto part = bytes.first(std::min({bytes.size(), detail::recipe_run - before, room}));
        plain_.insert(plain_.end(), part.begin(), part.end());
        bytes = bytes.subspan(part.size());
        const std::size_t size = before + part.size();
        plain_[run_] = static_cast<std::byte>(size);
        plain_[run_ + 1] = static_cast<std::byte>(size >> 8);
    }
}

OVERMOUNT_LAZY_BODY void recipe_writer::file(std::string_view path, std::uint64_t size)
{
    begin(static_cast<char>(detail::recipe_code::file));
    text(path);
    number(size);
    piece_offset_ = piece_size_ = piece_end_ = 0;
}

// Pieces that touch become one: how they came depends on how the tar was cut.
OVERMOUNT_LAZY_BODY void recipe_writer::piece(std::uint64_t offset, std::uint64_t count)
{
    total_ += count;
    if (piece_size_ != 0 && offset != piece_offset_ + piece_size_)
        flush_piece();
    if (piece_size_ == 0)
        piece_offset_ = offset;
    piece_size_ += count;
}

OVERMOUNT_LAZY_BODY void recipe_writer::flush_piece()
{
    begin(static_cast<char>(detail::recipe_code::piece));
    number(piece_offset_ - piece_end_);
    number(piece_size_);
    piece_end_ = piece_offset_ + std::exchange(piece_size_, 0);
}

OVERMOUNT_LAZY_BODY void recipe_writer::end_file(std::uint32_t crc)
{
    flush_piece();
    begin(static_cast<char>(detail::recipe_code::end_file));
    for (int shift = 0; shift < 32; shift += 8)
        plain_.push_back(static_cast<std::byte>(crc >> shift));
}

OVERMOUNT_LAZY_BODY void recipe_writer::moved(std::string_view path)
{
    begin(static_cast<char>(detail::recipe_code::moved));
    text(path);
}

OVERMOUNT_LAZY_BODY void recipe_writer::finish()
{
    begin(static_cast<char>(detail::recipe_code::end));
    number(total_);
    compress(true);
}

OVERMOUNT_LAZY_BODY void recipe_writer::compress(bool last)
{
    const bool first = !context_;
    if (first)
        context_ = spare() ? std::move(spare()) : make_packer();
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
        if (::ZSTD_isError(left)) // there is no other way to fail
            throw std::bad_alloc();
        return left;
    };
    // zstd writes the header of its frame itself.
    if (first)
        out.pos = detail::recipe_head.copy(reinterpret_cast<char*>(packed.data()), detail::recipe_frame_at);
    // The end by itself: told of the size in advance, zstd would take a smaller window.
    while (in.pos != in.size)
        step(ZSTD_e_continue);
    while (last && step(ZSTD_e_end) != 0) {
    }
    put();
    plain_.clear();
    if (last)
        spare() = std::move(context_); // as new: a frame that is over has left nothing in it but its parameters
}

OVERMOUNT_DECL void recipe_reader::release::operator()(ZSTD_DCtx_s* context) const noexcept
{
    ::ZSTD_freeDCtx(context);
}

OVERMOUNT_LAZY_BODY recipe_reader::recipe_reader(std::function<std::size_t(std::span<std::byte>)> input)
    : input_(std::move(input)), context_(::ZSTD_createDCtx()), packed_(detail::recipe_buffer),
      plain_(2 * detail::recipe_buffer)
{
    if (!context_)
        throw std::bad_alloc();
}

OVERMOUNT_LAZY_BODY void recipe_reader::read_head()
{
    while (packed_end_ < detail::recipe_head.size()) {
        const std::size_t count = input_(std::span(packed_).subspan(packed_end_));
        if (count == 0)
            detail::bad_recipe("it is cut");
        packed_end_ += count;
    }
    const std::string_view head(reinterpret_cast<const char*>(packed_.data()), detail::recipe_head.size());
    const auto name = head.substr(0, detail::recipe_version_at);
    if (name == detail::recipe_head.substr(0, detail::recipe_version_at) &&
        head[detail::recipe_version_at] > detail::recipe_head[detail::recipe_version_at])
        throw error(errc::unsupported_repository).at(stage::storage).operation("read recipe");
    if (head != detail::recipe_head)
        detail::bad_recipe("it is none");
    packed_at_ = detail::recipe_frame_at;
}

// More of the plain bytes, behind those that are not used yet; false at the end of the frame.
OVERMOUNT_LAZY_BODY bool recipe_reader::decompress()
{
    if (plain_at_ != 0) {
        std::memmove(plain_.data(), plain_.data() + plain_at_, plain_end_ - plain_at_);
        plain_end_ -= std::exchange(plain_at_, 0);
    }
    const std::size_t before = plain_end_;
    while (plain_end_ == before && !frame_over_) {
        // zstd may hold back what the buffer had no room for.
        if (packed_at_ == packed_end_ && !held_back_) {
            packed_at_ = 0;
            packed_end_ = input_(packed_);
            if (packed_end_ == 0)
                detail::bad_recipe("it is cut");
        }
        ZSTD_inBuffer in{packed_.data(), packed_end_, packed_at_};
        ZSTD_outBuffer out{plain_.data(), plain_.size(), plain_end_};
        const std::size_t left = ::ZSTD_decompressStream(context_.get(), &out, &in);
        detail::check_zstd(left);
        packed_at_ = in.pos;
        plain_end_ = out.pos;
        held_back_ = out.pos == out.size;
        frame_over_ = left == 0;
    }
    return plain_end_ != before;
}

OVERMOUNT_LAZY_BODY void recipe_reader::need(std::size_t count)
{
    while (plain_end_ - plain_at_ < count)
        if (!decompress())
            detail::bad_recipe("it ends too early");
}

OVERMOUNT_LAZY_BODY std::byte recipe_reader::byte()
{
    need(1);
    return plain_[plain_at_++];
}

OVERMOUNT_LAZY_BODY std::uint64_t recipe_reader::number()
{
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        const auto bits = std::to_integer<std::uint64_t>(byte());
        value |= (bits & 0x7f) << shift;
        if (bits < 0x80)
            return value;
    }
    detail::bad_recipe("a number is too large");
}

OVERMOUNT_LAZY_BODY void recipe_reader::read_path()
{
    const std::uint64_t size = number();
    if (size == 0 || size > detail::recipe_path)
        detail::bad_recipe("a path is empty or too long");
    need(static_cast<std::size_t>(size));
    path_.assign(reinterpret_cast<const char*>(plain_.data()) + plain_at_, static_cast<std::size_t>(size));
    plain_at_ += path_.size();
    if (path_.find('\0') != std::string::npos)
        detail::bad_recipe("a path holds a NUL");
    for (std::size_t at = 0; at <= path_.size();) {
        const std::size_t end = std::min(path_.find('/', at), path_.size());
        const auto name = std::string_view(path_).substr(at, end - at);
        if (name.empty() || name == "." || name == "..")
            detail::bad_recipe("a path is not one of the tree");
        at = end + 1;
    }
}

OVERMOUNT_LAZY_BODY void recipe_reader::add(std::uint64_t count)
{
    if (count > detail::recipe_total - total_)
        detail::bad_recipe("the tar is too large");
    total_ += count;
}

OVERMOUNT_LAZY_BODY recipe_step recipe_reader::read_bytes()
{
    need(1);
    bytes_ = std::span<const std::byte>(plain_).subspan(plain_at_, std::min(run_left_, plain_end_ - plain_at_));
    run_left_ -= bytes_.size();
    plain_at_ += bytes_.size();
    return recipe_step::bytes;
}

OVERMOUNT_LAZY_BODY void recipe_reader::read_piece()
{
    const std::uint64_t gap = number();
    count_ = number();
    const std::uint64_t room = size_ - file_end_;
    if (count_ == 0 || gap > room || count_ > room - gap)
        detail::bad_recipe("a piece is empty or behind the end of its file");
    offset_ = file_end_ + gap;
    file_end_ = offset_ + count_;
    add(count_);
}

OVERMOUNT_LAZY_BODY recipe_step recipe_reader::next()
{
    if (place_ == place::over)
        return recipe_step::end;
    if (packed_end_ == 0)
        read_head();
    if (run_left_ != 0)
        return read_bytes();
    const auto code = static_cast<detail::recipe_code>(byte());
    const bool outside = place_ == place::outside;
    if (code == detail::recipe_code::bytes && outside) {
        const auto low = std::to_integer<std::size_t>(byte());
        run_left_ = low | std::to_integer<std::size_t>(byte()) << 8;
        if (run_left_ == 0)
            detail::bad_recipe("a run of bytes is empty");
        add(run_left_);
        return read_bytes();
    }
    if (code == detail::recipe_code::file && outside) {
        read_path();
        size_ = number();
        file_end_ = 0;
        place_ = place::in_file;
        return recipe_step::file;
    }
    if (code == detail::recipe_code::piece && !outside) {
        read_piece();
        place_ = place::in_pieces;
        return recipe_step::piece;
    }
    if (code == detail::recipe_code::end_file && place_ == place::in_pieces) {
        crc_ = 0;
        for (int shift = 0; shift < 32; shift += 8)
            crc_ |= std::to_integer<std::uint32_t>(byte()) << shift;
        place_ = place::outside;
        return recipe_step::end_file;
    }
    if (code == detail::recipe_code::moved && outside) {
        read_path();
        return recipe_step::moved;
    }
    if (code != detail::recipe_code::end || !outside)
        detail::bad_recipe("a step is unknown, or not in its place");
    finish();
    return recipe_step::end;
}

OVERMOUNT_LAZY_BODY void recipe_reader::finish()
{
    if (number() != total_)
        detail::bad_recipe("the tar has another size");
    // The frame's checksum comes last.
    if (plain_at_ != plain_end_ || decompress())
        detail::bad_recipe("something follows its end");
    if (packed_at_ != packed_end_ || input_(packed_) != 0)
        detail::bad_recipe("something follows its end");
    place_ = place::over;
}

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif
