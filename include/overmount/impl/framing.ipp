#ifndef OVERMOUNT_IMPL_FRAMING_IPP
#define OVERMOUNT_IMPL_FRAMING_IPP

#include <overmount/tar/framing.hpp>

#include <algorithm>
#include <charconv>
#include <limits>

namespace overmount::inline OVERMOUNT_ABI::tar {

inline constexpr std::uint64_t largest_size = std::uint64_t{1} << 62;

inline std::uint64_t padding_of(std::uint64_t size) noexcept { return (block_size - size % block_size) % block_size; }

OVERMOUNT_DECL void framing::fail(errc code, std::string_view words) const
{
    throw error(code).at(stage::framing).entry(entry_.path).detail(words);
}

// Makes `block_` the next 512 bytes; copies only where they come in pieces.
OVERMOUNT_DECL bool framing::take_block(std::span<const std::byte>& input)
{
    if (partial_.size() == block_size)
        partial_.clear();
    if (partial_.empty() && input.size() >= block_size) {
        block_ = input.first(block_size);
        input = input.subspan(block_size);
    } else {
        const auto piece = input.first(std::min(input.size(), block_size - partial_.size()));
        partial_.insert(partial_.end(), piece.begin(), piece.end());
        input = input.subspan(piece.size());
        offset_ += piece.size();
        if (partial_.size() < block_size)
            return false;
        block_ = partial_;
        return true;
    }
    offset_ += block_size;
    return true;
}

OVERMOUNT_DECL event framing::next(std::span<const std::byte>& input)
{
    for (;;) {
        switch (state_) {
        case state::header:
        case state::marker:
            if (!take_block(input))
                return event::need_input;
            if (header(block_).zero()) {
                if (std::exchange(state_, state_ == state::marker ? state::rest : state::marker) == state::marker)
                    return event::end;
                break;
            }
            // A single zero block does not end the archive: what follows is read on.
            state_ = state::header;
            read_header();
            break;
        case state::extension:
            if (!read_extension(input))
                return event::need_input;
            break;
        case state::sparse_blocks:
            if (!take_block(input))
                return event::need_input;
            read_sparse_blocks();
            break;
        case state::sparse_map:
            if (!take_block(input))
                return event::need_input;
            read_sparse_map();
            break;
        case state::announce:
            check_entry();
            state_ = state::data;
            return event::entry;
        case state::data:
        case state::padding:
            return read_data(input);
        case state::rest:
            offset_ += input.size();
            input = {};
            return event::need_input;
        }
    }
}

OVERMOUNT_DECL void framing::read_header()
{
    if (std::exchange(fresh_, false)) {
        blocks_.clear();
        entry_.path.clear();
    }
    const header block(block_);
    if (!block.checksum_matches())
        fail(errc::malformed_tar, "the checksum is wrong");
    if (blocks_.size() > (bounds_.extensions + 1) * (bounds_.extension_bytes + 4096))
        fail(errc::extension_too_large);
    blocks_.insert(blocks_.end(), block_.begin(), block_.end());
    switch (const char type = block.type()) {
    case 'x':
    case 'g':
    case 'L':
    case 'K':
        return begin_extension(block, type);
    default:
        return read_entry(block);
    }
}

OVERMOUNT_DECL void framing::begin_extension(const header& block, char type)
{
    const auto size = block.number(124, 12);
    if (!size || *size < 0)
        fail(errc::malformed_tar, "the size of an extension header is not a number");
    if (static_cast<std::uint64_t>(*size) > bounds_.extension_bytes || ++extensions_ > bounds_.extensions)
        fail(errc::extension_too_large);
    extension_type_ = type;
    extension_left_ = static_cast<std::uint64_t>(*size);
    extension_padding_ = padding_of(extension_left_);
    extension_.clear();
    state_ = state::extension;
    if (extension_left_ == 0)
        end_extension();
}

OVERMOUNT_DECL bool framing::read_extension(std::span<const std::byte>& input)
{
    const auto take = [&](std::uint64_t& left) {
        const auto piece = input.first(static_cast<std::size_t>(std::min<std::uint64_t>(input.size(), left)));
        blocks_.insert(blocks_.end(), piece.begin(), piece.end());
        input = input.subspan(piece.size());
        offset_ += piece.size();
        left -= piece.size();
        return std::string_view(reinterpret_cast<const char*>(piece.data()), piece.size());
    };
    extension_ += take(extension_left_);
    if (extension_left_ == 0)
        take(extension_padding_);
    if (extension_left_ != 0 || extension_padding_ != 0)
        return false;
    end_extension();
    return true;
}

OVERMOUNT_DECL void framing::end_extension()
{
    state_ = state::header;
    switch (extension_type_) {
    case 'L':
        long_name_ = extension_.substr(0, extension_.find('\0'));
        has_long_name_ = true;
        break;
    case 'K':
        long_link_ = extension_.substr(0, extension_.find('\0'));
        has_long_link_ = true;
        break;
    default:
        read_records(extension_type_ == 'g');
    }
}

// Records are `<length> <key>=<value>\n`, the length counting all of it. Those of a global header are checked and
// have no effect: no layer has any that mean something.
OVERMOUNT_DECL void framing::read_records(bool global)
{
    std::string_view text = extension_;
    if (!global)
        records_.clear();
    while (!text.empty()) {
        const auto blank = text.find(' ');
        const auto length = parse_decimal(text.substr(0, std::min(blank, text.size())));
        if (blank == std::string_view::npos || blank > 20 || !length || *length > text.size() ||
            *length < blank + 3 || text[*length - 1] != '\n')
            fail(errc::malformed_tar, "malformed PAX record");
        const std::string_view body = text.substr(blank + 1, *length - blank - 2);
        const auto equals = body.find('=');
        const std::string_view key = body.substr(0, std::min(equals, body.size()));
        if (equals == std::string_view::npos || equals == 0 || key.find('\0') != std::string_view::npos)
            fail(errc::malformed_tar, "malformed PAX record");
        if (!global)
            records_.emplace_back(key, body.substr(equals + 1));
        text.remove_prefix(*length);
    }
}

OVERMOUNT_DECL void framing::read_entry(const header& block)
{
    entry_.path.clear();
    entry_.link_target.clear();
    entry_.xattrs.clear();
    entry_.segments.clear();
    entry_.sparse = false;
    sparse_major_.reset();
    real_size_.reset();
    pending_offset_.reset();
    map_text_.clear();
    map_numbers_.clear();
    has_sparse_name_ = sparse_more_ = false;
    extensions_ = 0;
    fresh_ = true;

    if (block.posix() && !block.prefix().empty())
        entry_.path.append(block.prefix()) += '/';
    entry_.path += block.name();
    entry_.link_target = block.link_name();
    if (std::exchange(has_long_name_, false))
        entry_.path.swap(long_name_);
    if (std::exchange(has_long_link_, false))
        entry_.link_target.swap(long_link_);
    read_numbers(block);
    for (const record& item : records_)
        apply(item);
    records_.clear();
    if (has_sparse_name_)
        entry_.path.swap(sparse_name_);
    if (++entries_ > bounds_.entries)
        fail(errc::too_many_entries);
    read_type(block);
}

OVERMOUNT_DECL void framing::read_numbers(const header& block)
{
    const auto number = [&](std::size_t offset, std::size_t size, std::int64_t most, const char* what) {
        const auto value = block.number(offset, size);
        if (!value || *value < 0 || *value > most)
            fail(errc::malformed_tar, what);
        return static_cast<std::uint64_t>(*value);
    };
    constexpr std::int64_t any = std::numeric_limits<std::int64_t>::max();
    entry_.mode = static_cast<std::uint32_t>(number(100, 8, any, "the mode is not a number") & 07777);
    entry_.uid = static_cast<std::uint32_t>(number(108, 8, 0xfffffffe, "the owner is not a valid number"));
    entry_.gid = static_cast<std::uint32_t>(number(116, 8, 0xfffffffe, "the group is not a valid number"));
    entry_.stored_size = number(124, 12, static_cast<std::int64_t>(largest_size), "the size is not a valid number");
    const auto time = block.number(136, 12);
    if (!time)
        fail(errc::malformed_tar, "the time is not a number");
    entry_.mtime = {*time, 0};
    entry_.device_major = entry_.device_minor = 0;
    if (block.type() == '3' || block.type() == '4') {
        entry_.device_major = static_cast<std::uint32_t>(number(329, 8, 0xfff, "the device is not a valid number"));
        entry_.device_minor = static_cast<std::uint32_t>(number(337, 8, 0xfffff, "the device is not a valid number"));
    }
}

OVERMOUNT_DECL void framing::read_type(const header& block)
{
    entry_.size = entry_.stored_size;
    state_ = state::announce;
    switch (block.type()) {
    case '\0':
    case '0':
    case '7':
        entry_.type = entry_type::regular;
        if (block.type() == '\0' && entry_.path.ends_with('/'))
            entry_.type = entry_type::directory;
        break;
    case 'S': {
        entry_.type = entry_type::regular;
        entry_.sparse = true;
        const auto size = block.number(483, 12);
        if (!size || *size < 0)
            fail(errc::malformed_tar, "the size of a sparse file is not a number");
        real_size_ = static_cast<std::uint64_t>(*size);
        read_gnu_map(block, 386, 4);
        sparse_more_ = block.at(482) != '\0';
        if (sparse_more_)
            state_ = state::sparse_blocks;
        break;
    }
    case '1': entry_.type = entry_type::hard_link; break;
    case '2': entry_.type = entry_type::symbolic_link; break;
    case '3': entry_.type = entry_type::character_device; break;
    case '4': entry_.type = entry_type::block_device; break;
    case '5': entry_.type = entry_type::directory; break;
    case '6': entry_.type = entry_type::fifo; break;
    default: fail(errc::unsupported_entry_type);
    }
    if (entry_.type != entry_type::regular)
        entry_.stored_size = entry_.size = 0;
    stored_left_ = entry_.stored_size;
    padding_left_ = padding_of(stored_left_);
    if (entry_.sparse && sparse_major_ == 1u)
        state_ = state::sparse_map;
}

OVERMOUNT_DECL std::uint64_t framing::unsigned_value(const std::string& text) const
{
    const auto value = parse_decimal(text);
    if (!value || *value > largest_size)
        fail(errc::malformed_tar, "a PAX value is not a valid number");
    return *value;
}

OVERMOUNT_DECL void framing::apply(const record& item)
{
    const auto& [key, value] = item;
    const auto id = [&](std::uint32_t& out) {
        const std::uint64_t number = unsigned_value(value);
        if (number > 0xfffffffe)
            fail(errc::malformed_tar, "the owner is not a valid number");
        out = static_cast<std::uint32_t>(number);
    };
    if ((key == "path" || key == "linkpath" || key == "GNU.sparse.name") && value.find('\0') != std::string::npos)
        fail(errc::malformed_tar, "a path holds a NUL");
    if (key == "path")
        entry_.path = value;
    else if (key == "linkpath")
        entry_.link_target = value;
    else if (key == "size")
        entry_.stored_size = unsigned_value(value);
    else if (key == "uid")
        id(entry_.uid);
    else if (key == "gid")
        id(entry_.gid);
    else if (key == "mtime")
        read_time(value);
    else if (key.starts_with("SCHILY.xattr."))
        apply_xattr(key.substr(13), value);
    else if (key.starts_with("GNU.sparse."))
        apply_sparse(key.substr(11), value);
}

OVERMOUNT_DECL void framing::apply_xattr(std::string name, std::string value)
{
    if (value.size() > bounds_.xattr_bytes)
        fail(errc::xattr_too_large);
    for (xattr& known : entry_.xattrs) {
        if (known.name == name) {
            known.value = std::move(value);
            return;
        }
    }
    // No file system holds more; and the search above stays short.
    if (entry_.xattrs.size() >= 1000)
        fail(errc::xattr_too_large, "too many attributes");
    entry_.xattrs.push_back({std::move(name), std::move(value)});
}

// Seconds with a fraction; of a negative time the fraction counts downwards.
OVERMOUNT_DECL void framing::read_time(const std::string& text)
{
    const bool negative = text.starts_with('-');
    const std::size_t point = std::min(text.find('.'), text.size());
    const auto seconds = parse_decimal(std::string_view(text).substr(negative ? 1 : 0, point - (negative ? 1 : 0)));
    if (!seconds || text.find_first_not_of("0123456789", std::min(point + 1, text.size())) != std::string::npos)
        fail(errc::malformed_tar, "the time is not a number");
    std::uint32_t nanoseconds = 0;
    for (std::size_t i = 1; i <= 9; ++i)
        nanoseconds = nanoseconds * 10 +
                      (point + i < text.size() ? static_cast<std::uint32_t>(text[point + i] - '0') : 0);
    entry_.mtime = {static_cast<std::int64_t>(*seconds), nanoseconds};
    if (negative) {
        entry_.mtime.seconds = -entry_.mtime.seconds - (nanoseconds != 0 ? 1 : 0);
        entry_.mtime.nanoseconds = nanoseconds != 0 ? 1'000'000'000 - nanoseconds : 0;
    }
}

OVERMOUNT_DECL void framing::apply_sparse(const std::string& key, const std::string& value)
{
    entry_.sparse = true;
    if (key == "major") {
        sparse_major_ = unsigned_value(value);
        if (*sparse_major_ > 1)
            fail(errc::malformed_tar, "unknown kind of sparse file");
    } else if (key == "name") {
        sparse_name_ = value;
        has_sparse_name_ = true;
    } else if (key == "realsize" || key == "size") {
        real_size_ = unsigned_value(value);
    } else if (key == "map") {
        read_sparse_01(value);
    } else if (key == "offset") {
        pending_offset_ = unsigned_value(value);
    } else if (key == "numbytes") {
        if (!pending_offset_)
            fail(errc::malformed_tar, "a sparse segment without an offset");
        add_segment(*std::exchange(pending_offset_, std::nullopt), unsigned_value(value));
    }
}

OVERMOUNT_DECL void framing::read_sparse_01(const std::string& map)
{
    entry_.segments.clear();
    for (std::size_t begin = 0; begin < map.size();) {
        const std::size_t middle = map.find(',', begin);
        if (middle == std::string::npos)
            fail(errc::malformed_tar, "a sparse map of odd length");
        const std::size_t end = std::min(map.find(',', middle + 1), map.size());
        add_segment(unsigned_value(map.substr(begin, middle - begin)),
                    unsigned_value(map.substr(middle + 1, end - middle - 1)));
        begin = end + 1;
    }
}

OVERMOUNT_DECL void framing::add_segment(std::uint64_t offset, std::uint64_t size)
{
    if (entry_.segments.size() >= bounds_.segments)
        fail(errc::too_many_segments);
    const auto& known = entry_.segments;
    if (offset > largest_size || size > largest_size ||
        (!known.empty() && offset < known.back().offset + known.back().size))
        fail(errc::malformed_tar, "sparse segments overlap");
    entry_.segments.push_back({offset, size});
}

OVERMOUNT_DECL void framing::read_gnu_map(const header& block, std::size_t begin, std::size_t count)
{
    for (std::size_t i = 0; i < count && block.at(begin + i * 24) != '\0'; ++i) {
        const auto offset = block.number(begin + i * 24, 12), size = block.number(begin + i * 24 + 12, 12);
        if (!offset || !size || *offset < 0 || *size < 0)
            fail(errc::malformed_tar, "a sparse segment is not a number");
        add_segment(static_cast<std::uint64_t>(*offset), static_cast<std::uint64_t>(*size));
    }
}

OVERMOUNT_DECL void framing::read_sparse_blocks()
{
    blocks_.insert(blocks_.end(), block_.begin(), block_.end());
    const header block(block_);
    const std::size_t before = entry_.segments.size();
    read_gnu_map(block, 0, 21);
    if (block.at(504) == '\0')
        state_ = state::announce;
    else if (entry_.segments.size() == before)
        fail(errc::malformed_tar, "an empty block of a sparse map");
}

// PAX 1.0: the number of segments, then offset and size of each, in decimal lines; padded to a block.
OVERMOUNT_DECL void framing::read_sparse_map()
{
    if (stored_left_ < block_size)
        fail(errc::malformed_tar, "a sparse map without an end");
    blocks_.insert(blocks_.end(), block_.begin(), block_.end());
    stored_left_ -= block_size;
    map_text_.append(reinterpret_cast<const char*>(block_.data()), block_.size());
    // Complete lines are read, each once; the count in front says when to stop.
    std::size_t begin = 0;
    bool complete = false;
    for (std::size_t end; !complete && (end = map_text_.find('\n', begin)) != std::string::npos; begin = end + 1) {
        map_numbers_.push_back(unsigned_value(map_text_.substr(begin, end - begin)));
        if (map_numbers_[0] > bounds_.segments)
            fail(errc::too_many_segments);
        complete = map_numbers_.size() == 1 + 2 * map_numbers_[0];
    }
    map_text_.erase(0, begin);
    if (map_text_.size() > block_size + 20)
        fail(errc::malformed_tar, "a sparse map that is not lines of numbers");
    if (!complete)
        return;
    for (std::size_t i = 1; i < map_numbers_.size(); i += 2)
        add_segment(map_numbers_[i], map_numbers_[i + 1]);
    entry_.stored_size = stored_left_;
    state_ = state::announce;
}

OVERMOUNT_DECL void framing::check_entry()
{
    if (entry_.path.size() > bounds_.path_bytes + 4 || entry_.link_target.size() > bounds_.path_bytes)
        fail(errc::path_too_long);
    segment_ = 0;
    segment_done_ = file_offset_ = 0;
    if (entry_.sparse) {
        if (entry_.type != entry_type::regular || !real_size_ || *real_size_ > largest_size)
            fail(errc::malformed_tar, "a sparse file without its size");
        entry_.size = *real_size_;
        std::uint64_t sum = 0;
        for (const segment& piece : entry_.segments) {
            sum += piece.size;
            if (sum > largest_size || piece.offset + piece.size > entry_.size)
                fail(errc::malformed_tar, "a sparse segment behind the end of its file");
        }
        if (sum != entry_.stored_size)
            fail(errc::malformed_tar, "the sparse segments do not add up to the data");
    }
    layer_bytes_ += entry_.size;
    if (layer_bytes_ > bounds_.layer_bytes)
        fail(errc::layer_too_large);
}

OVERMOUNT_DECL event framing::read_data(std::span<const std::byte>& input)
{
    if (stored_left_ == 0 && padding_left_ == 0) {
        state_ = state::header;
        return event::entry_end;
    }
    if (input.empty())
        return event::need_input;
    std::uint64_t want = stored_left_ != 0 ? stored_left_ : padding_left_;
    if (stored_left_ != 0 && entry_.sparse) {
        while (segment_done_ == entry_.segments[segment_].size) {
            ++segment_;
            segment_done_ = 0;
        }
        want = entry_.segments[segment_].size - segment_done_;
    }
    const auto piece = input.first(static_cast<std::size_t>(std::min<std::uint64_t>(input.size(), want)));
    input = input.subspan(piece.size());
    offset_ += piece.size();
    if (stored_left_ == 0) {
        padding_left_ -= piece.size();
        return read_data(input); // at most once more: the padding is over, or the input is
    }
    data_ = piece;
    data_offset_ = entry_.sparse ? entry_.segments[segment_].offset + segment_done_ : file_offset_;
    segment_done_ += piece.size();
    file_offset_ += piece.size();
    stored_left_ -= piece.size();
    return event::data;
}

OVERMOUNT_DECL void framing::skip(std::uint64_t count)
{
    count = std::min(count, skippable());
    offset_ += count;
    const std::uint64_t data = std::min(count, stored_left_);
    stored_left_ -= data;
    padding_left_ -= count - data;
}

OVERMOUNT_DECL void framing::finish() const
{
    const bool between = (state_ == state::header || state_ == state::marker) && fresh_ &&
                         (partial_.empty() || partial_.size() == block_size);
    if (!between && state_ != state::rest)
        throw error(errc::truncated_stream).at(stage::framing).entry(entry_.path);
}

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif
