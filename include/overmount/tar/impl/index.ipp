#ifndef OVERMOUNT_TAR_IMPL_INDEX_IPP
#define OVERMOUNT_TAR_IMPL_INDEX_IPP

#include <overmount/posix/fs.hpp>
#include <overmount/tar/index.hpp>

#include <algorithm>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::detail::index_form {

inline constexpr std::string_view magic = "overmount index 1\n";
inline constexpr std::size_t trailer = 4 + 8 + 32; // a length of 0, the tar's size, the checksum
inline constexpr std::size_t piece = 64 << 10;

template <class Number>
void put(std::string& out, Number value)
{
    for (unsigned i = 0; i < sizeof value; ++i)
        out += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xff);
}

inline void put(std::string& out, const std::string& text)
{
    put(out, static_cast<std::uint32_t>(text.size()));
    out += text;
}

// Reads values from the front of an entry's bytes.
class cursor
{
public:
    explicit cursor(std::string_view bytes) : left_(bytes) {}

    template <class Number>
    Number number()
    {
        std::uint64_t out = 0;
        const std::string_view bytes = take(sizeof(Number));
        for (unsigned i = 0; i < sizeof(Number); ++i)
            out |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
        return static_cast<Number>(out);
    }
    std::string text() { return std::string(take(number<std::uint32_t>())); }
    [[nodiscard]] bool empty() const noexcept { return left_.empty(); }

private:
    std::string_view take(std::size_t count)
    {
        if (count > left_.size())
            throw error(errc::invalid_asset).at(stage::storage).detail("an entry of the index is truncated");
        const std::string_view out = left_.substr(0, count);
        left_.remove_prefix(count);
        return out;
    }
    std::string_view left_;
};

} // namespace overmount::OVERMOUNT_ABI::detail::index_form

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL index_writer::index_writer(int fd)
    : fd_(fd), text_(index_form::magic), sum_(digest_algorithm::sha256)
{
}

OVERMOUNT_DECL void index_writer::add(const tar::located_entry& one)
{
    using index_form::put;
    const tar::entry& from = one.entry;
    std::string body;
    put(body, one.offset);
    put(body, static_cast<std::uint32_t>(from.type));
    put(body, static_cast<std::uint32_t>(from.sparse));
    for (const std::uint32_t value : {from.mode, from.uid, from.gid})
        put(body, value);
    put(body, from.size);
    put(body, from.stored_size);
    put(body, from.mtime.seconds);
    for (const std::uint32_t value : {from.mtime.nanoseconds, from.device_major, from.device_minor})
        put(body, value);
    put(body, from.path);
    put(body, from.link_target);
    for (const tar::xattr& attribute : from.xattrs) {
        put(body, attribute.name);
        put(body, attribute.value);
    }
    put(text_, body);
    if (text_.size() >= index_form::piece)
        flush();
}

OVERMOUNT_DECL void index_writer::finish(std::uint64_t tar_size)
{
    index_form::put(text_, std::uint32_t{0});
    index_form::put(text_, tar_size);
    flush();
    const digest sum = sum_.finish();
    write_all(fd_, sum.bytes());
}

OVERMOUNT_DECL void index_writer::flush()
{
    const auto bytes = std::as_bytes(std::span(text_));
    sum_.update(bytes);
    write_all(fd_, bytes);
    text_.clear();
}

OVERMOUNT_DECL std::optional<index_reader> index_reader::open(const overmount::file_range& bytes,
                                                                   std::uint64_t tar_size)
{
    using index_form::magic, index_form::trailer;
    if (bytes.size() < magic.size() + trailer)
        return std::nullopt;
    const std::uint64_t hashed_size = bytes.size() - 32;
    hasher sum(digest_algorithm::sha256);
    std::vector<std::byte> buffer(index_form::piece);
    for (std::uint64_t at = 0; at < hashed_size;) {
        const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), hashed_size - at));
        const auto got = bytes.read(at, std::span(buffer).first(want));
        sum.update(std::span(buffer).first(got));
        at += got;
    }
    const auto text = [&bytes](std::uint64_t at, std::uint64_t size) { return bytes.part(at, size).text(); };
    std::string end;
    index_form::put(end, std::uint32_t{0});
    index_form::put(end, tar_size);
    const digest found = sum.finish();
    for (const std::byte one : found.bytes())
        end += static_cast<char>(one);
    if (text(0, magic.size()) != magic || text(bytes.size() - trailer, trailer) != end)
        return std::nullopt;
    return index_reader(bytes.part(magic.size(), bytes.size() - magic.size() - trailer));
}

// Makes sure that the buffer holds `count` unread bytes, reading more if needed; false if the index ends before.
OVERMOUNT_DECL bool index_reader::fill(std::size_t count)
{
    const std::size_t have = buffer_.size() - begin_;
    if (have >= count)
        return true;
    if (count - have > bytes_.size() - position_)
        return false;
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
    begin_ = 0;
    std::size_t end = have;
    buffer_.resize(std::max(count, index_form::piece));
    while (end < count) {
        const std::size_t got = bytes_.read(position_, std::span(buffer_).subspan(end));
        position_ += got;
        end += got;
    }
    buffer_.resize(end);
    return true;
}

OVERMOUNT_DECL bool index_reader::next(tar::located_entry& into)
{
    const auto text = [this](std::size_t count) {
        if (!fill(count))
            throw error(errc::invalid_asset).at(stage::storage).detail("the index is truncated");
        const char* at = reinterpret_cast<const char*>(buffer_.data()) + begin_;
        begin_ += count;
        return std::string_view(at, count);
    };
    if (begin_ == buffer_.size() && position_ == bytes_.size())
        return false;
    const auto length = index_form::cursor(text(4)).number<std::uint32_t>();
    index_form::cursor body(text(length));
    tar::entry& out = into.entry;
    into.offset = body.number<std::uint64_t>();
    out.type = static_cast<tar::entry_type>(body.number<std::uint32_t>());
    out.sparse = body.number<std::uint32_t>() != 0;
    out.mode = body.number<std::uint32_t>();
    out.uid = body.number<std::uint32_t>();
    out.gid = body.number<std::uint32_t>();
    out.size = body.number<std::uint64_t>();
    out.stored_size = body.number<std::uint64_t>();
    out.mtime.seconds = body.number<std::int64_t>();
    out.mtime.nanoseconds = body.number<std::uint32_t>();
    out.device_major = body.number<std::uint32_t>();
    out.device_minor = body.number<std::uint32_t>();
    out.path = body.text();
    out.link_target = body.text();
    out.xattrs.clear();
    out.segments.clear();
    while (!body.empty()) {
        std::string name = body.text();
        out.xattrs.push_back({std::move(name), body.text()});
    }
    return true;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
