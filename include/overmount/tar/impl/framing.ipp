#ifndef OVERMOUNT_TAR_IMPL_FRAMING_IPP
#define OVERMOUNT_TAR_IMPL_FRAMING_IPP

#include <overmount/tar/framing.hpp>

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>

namespace overmount::OVERMOUNT_ABI::tar::detail {

inline constexpr std::uint64_t largest_size = std::uint64_t{1} << 62;

inline std::uint64_t padding_of(std::uint64_t size) noexcept
{
    return (block_size - size % block_size) % block_size;
}

} // namespace overmount::OVERMOUNT_ABI::tar::detail

namespace overmount::OVERMOUNT_ABI::tar {

OVERMOUNT_DECL void framing::fail(errc code, std::string_view detail) const
{
    throw error(code).at(stage::framing).entry(entry_.path).detail(detail);
}

// Sets `block_` to the next 512 bytes; copies them only if they arrive in pieces. False: more input is needed.
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
        case state::zero_block:
            if (!take_block(input))
                return event::need_input;
            if (header(block_).zero()) {
                if (has_pending_extension())
                    fail(errc::malformed_tar, "an extension header has no entry after it");
                if (std::exchange(state_, state_ == state::zero_block ? state::after_end : state::zero_block) == state::zero_block)
                    return event::end;
                break;
            }
            // GNU tar and libarchive stop at a single zero block, others continue: accept no archive that depends on it.
            if (state_ == state::zero_block)
                fail(errc::malformed_tar, "a header follows a single zero block");
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
        case state::entry_ready:
            check_entry();
            state_ = state::data;
            return event::entry;
        case state::data:
        case state::padding:
            return read_data(input);
        case state::after_end:
            offset_ += input.size();
            input = {};
            return event::need_input;
        }
    }
}

OVERMOUNT_DECL void framing::read_header()
{
    if (std::exchange(starts_entry_, false)) {
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
        fail(errc::malformed_tar, "the size of an extension header is not a valid number");
    if (static_cast<std::uint64_t>(*size) > bounds_.extension_bytes || ++extensions_ > bounds_.extensions)
        fail(errc::extension_too_large);
    extension_type_ = type;
    extension_left_ = static_cast<std::uint64_t>(*size);
    extension_padding_ = detail::padding_of(extension_left_);
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
    const auto refuse_second = [this](bool& seen) {
        if (std::exchange(seen, true))
            fail(errc::malformed_tar, "two extension headers of one kind");
    };
    switch (extension_type_) {
    case 'L':
        refuse_second(has_long_name_);
        long_name_ = extension_.substr(0, extension_.find('\0'));
        break;
    case 'K':
        refuse_second(has_long_link_);
        long_link_ = extension_.substr(0, extension_.find('\0'));
        break;
    case 'x':
        refuse_second(has_records_);
        read_records(false);
        break;
    default: read_records(true);
    }
}

// A record is `<length> <key>=<value>\n`; the length counts the whole record. Records of a global header are checked and
// then ignored: layers do not use them for anything meaningful.
OVERMOUNT_DECL void framing::read_records(bool global)
{
    std::string_view text = extension_;
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
    overrides_ = {};
    sparse_major_.reset();
    real_size_.reset();
    pending_offset_.reset();
    map_text_.clear();
    map_numbers_.clear();
    extensions_ = 0;
    starts_entry_ = true;

    if (block.posix() && !block.prefix().empty())
        entry_.path.append(block.prefix()) += '/';
    entry_.path += block.name();
    entry_.link_target = block.link_name();
    if (std::exchange(has_long_name_, false))
        entry_.path.swap(long_name_);
    if (std::exchange(has_long_link_, false))
        entry_.link_target.swap(long_link_);
    for (const record& item : records_)
        apply(item);
    records_.clear();
    has_records_ = false;
    if (pending_offset_)
        fail(errc::malformed_tar, "a sparse segment has no size");
    merge_xattrs();
    if (overrides_.sparse_name || overrides_.path)
        entry_.path = overrides_.sparse_name ? *overrides_.sparse_name : *overrides_.path;
    if (overrides_.link_target)
        entry_.link_target = *overrides_.link_target;
    read_numbers(block);
    if (++entries_ > bounds_.entries)
        fail(errc::too_many_entries);
    read_type(block);
}

// A header field that a PAX record overrides need not be a number.
OVERMOUNT_DECL void framing::read_numbers(const header& block)
{
    const auto number = [&](std::size_t offset, std::size_t size, std::int64_t maximum, const char* problem) {
        const auto value = block.number(offset, size);
        if (!value || *value < 0 || *value > maximum)
            fail(errc::malformed_tar, problem);
        return static_cast<std::uint64_t>(*value);
    };
    const auto id = [&](const std::optional<std::uint32_t>& overriding, std::size_t offset, const char* problem) {
        return overriding ? *overriding : static_cast<std::uint32_t>(number(offset, 8, 0xfffffffe, problem));
    };
    constexpr std::int64_t no_maximum = std::numeric_limits<std::int64_t>::max();
    entry_.mode = static_cast<std::uint32_t>(number(100, 8, no_maximum, "the mode is not a valid number") & 07777);
    entry_.uid = id(overrides_.uid, 108, "the owner is not a valid number");
    entry_.gid = id(overrides_.gid, 116, "the group is not a valid number");
    entry_.stored_size = overrides_.size ? *overrides_.size
                                    : number(124, 12, static_cast<std::int64_t>(detail::largest_size),
                                             "the size is not a valid number");
    const auto time = block.number(136, 12);
    if (!overrides_.mtime && !time)
        fail(errc::malformed_tar, "the modification time is not a valid number");
    entry_.mtime = overrides_.mtime ? *overrides_.mtime : timestamp{*time, 0};
    entry_.device_major = entry_.device_minor = 0;
    if (block.type() == '3' || block.type() == '4') {
        entry_.device_major = static_cast<std::uint32_t>(number(329, 8, 0xfff, "the device is not a valid number"));
        entry_.device_minor = static_cast<std::uint32_t>(number(337, 8, 0xfffff, "the device is not a valid number"));
    }
}

OVERMOUNT_DECL void framing::read_type(const header& block)
{
    entry_.size = entry_.stored_size;
    state_ = state::entry_ready;
    switch (block.type()) {
    case '\0':
    case '0':
    case '7':
        entry_.type = entry_type::regular;
        if (block.type() == '\0' && entry_.path.ends_with('/'))
            entry_.type = entry_type::directory;
        break;
    case 'S': {
        if (!block.gnu() || entry_.sparse)
            fail(errc::malformed_tar, "a GNU sparse header without GNU's magic, or with a PAX sparse map as well");
        entry_.type = entry_type::regular;
        entry_.sparse = true;
        const auto size = block.number(483, 12);
        if (!size || *size < 0)
            fail(errc::malformed_tar, "the size of a sparse file is not a valid number");
        real_size_ = static_cast<std::uint64_t>(*size);
        read_gnu_map(block, 386, 4);
        if (block.at(482) != '\0')
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
    padding_left_ = detail::padding_of(stored_left_);
    if (entry_.sparse && sparse_major_ == 1u)
        state_ = state::sparse_map;
}

OVERMOUNT_DECL std::uint64_t framing::unsigned_value(const std::string& text) const
{
    const auto value = parse_decimal(text);
    if (!value || *value > detail::largest_size)
        fail(errc::malformed_tar, "a PAX value is not a valid number");
    return *value;
}

OVERMOUNT_DECL std::uint32_t framing::id_value(const std::string& text) const
{
    const std::uint64_t number = unsigned_value(text);
    if (number > 0xfffffffe)
        fail(errc::malformed_tar, "the owner or group is not a valid number");
    return static_cast<std::uint32_t>(number);
}

OVERMOUNT_DECL void framing::apply(const record& item)
{
    // No structured binding: Clang 14 cannot capture one in a lambda.
    const std::string& key = item.first;
    const std::string& value = item.second;
    const auto set = [&](auto& field, auto&& read) {
        if (value.empty())
            field.reset();
        else
            field = read(value);
    };
    const auto id = [this](const std::string& text) { return id_value(text); };
    const auto path = [this](const std::string& text) {
        if (text.find('\0') != std::string::npos)
            fail(errc::malformed_tar, "a path contains a NUL byte");
        return text;
    };
    if (key == "path")
        set(overrides_.path, path);
    else if (key == "linkpath")
        set(overrides_.link_target, path);
    else if (key == "GNU.sparse.name")
        set(overrides_.sparse_name, path);
    else if (key == "size")
        set(overrides_.size, [this](const std::string& text) { return unsigned_value(text); });
    else if (key == "uid")
        set(overrides_.uid, id);
    else if (key == "gid")
        set(overrides_.gid, id);
    else if (key == "mtime")
        set(overrides_.mtime, [this](const std::string& text) { return time_value(text); });
    else if (key.starts_with("SCHILY.xattr."))
        add_xattr(key.substr(13), value); // an empty value does not cancel: attributes may be empty
    else if (key.starts_with("LIBARCHIVE.xattr."))
        add_libarchive_xattr(std::string_view(key).substr(17), value);
    else if (key.starts_with("GNU.sparse."))
        apply_sparse(key.substr(11), value);
}

OVERMOUNT_DECL void framing::add_xattr(std::string name, std::string value)
{
    if (name.empty())
        fail(errc::malformed_tar, "an extended attribute has no name");
    if (name.size() > 255 || value.size() > bounds_.xattr_bytes)
        fail(errc::xattr_too_large);
    entry_.xattrs.push_back({std::move(name), std::move(value)});
}

// The name is URL-encoded, the value in base64. See libarchive, tar(5), "LIBARCHIVE.xattr".
OVERMOUNT_DECL void framing::add_libarchive_xattr(std::string_view name, std::string_view value)
{
    auto plain_name = decode_percent(name);
    auto plain_value = decode_base64(value);
    if (!plain_name || !plain_value || plain_name->find('\0') != std::string::npos)
        fail(errc::malformed_tar, "a LIBARCHIVE.xattr record is not encoded correctly");
    add_xattr(std::move(*plain_name), std::move(*plain_value));
    libarchive_xattrs_.push_back(std::move(entry_.xattrs.back()));
    entry_.xattrs.pop_back();
}

// The last of several records with one name wins; SCHILY.xattr, which all tools know, wins over LIBARCHIVE.xattr.
OVERMOUNT_DECL void framing::merge_xattrs()
{
    std::map<std::string, std::string> merged;
    for (auto* list : {&libarchive_xattrs_, &entry_.xattrs}) {
        for (xattr& one : *list)
            merged.insert_or_assign(std::move(one.name), std::move(one.value));
        list->clear();
    }
    // No file system stores more than this.
    if (merged.size() > 1000)
        fail(errc::xattr_too_large, "an entry has more than 1000 extended attributes");
    for (auto& [name, value] : merged)
        entry_.xattrs.push_back({name, std::move(value)});
}

// Decimal seconds with a fraction. `timestamp` counts nanoseconds upwards, so a negative time with a fraction is borrowed from
// the second below.
OVERMOUNT_DECL timestamp framing::time_value(const std::string& text) const
{
    const bool negative = text.starts_with('-');
    const std::size_t point = std::min(text.find('.'), text.size());
    const auto seconds = parse_decimal(std::string_view(text).substr(negative ? 1 : 0, point - (negative ? 1 : 0)));
    if (!seconds || text.find_first_not_of("0123456789", std::min(point + 1, text.size())) != std::string::npos)
        fail(errc::malformed_tar, "the modification time is not a valid number");
    std::uint32_t nanoseconds = 0;
    for (std::size_t i = 1; i <= 9; ++i)
        nanoseconds = nanoseconds * 10 +
                      (point + i < text.size() ? static_cast<std::uint32_t>(text[point + i] - '0') : 0);
    const auto whole = static_cast<std::int64_t>(*seconds);
    if (!negative)
        return {whole, nanoseconds};
    return nanoseconds == 0 ? timestamp{-whole, 0} : timestamp{-whole - 1, 1'000'000'000 - nanoseconds};
}

OVERMOUNT_DECL void framing::apply_sparse(const std::string& key, const std::string& value)
{
    entry_.sparse = true;
    if (key == "major") {
        sparse_major_ = unsigned_value(value);
        if (*sparse_major_ > 1)
            fail(errc::malformed_tar, "the version of the sparse format is not supported");
    } else if (key == "realsize" || key == "size") {
        real_size_ = unsigned_value(value);
    } else if (key == "map") {
        read_sparse_01(value);
    } else if (key == "offset") {
        if (pending_offset_)
            fail(errc::malformed_tar, "a sparse segment has no size");
        pending_offset_ = unsigned_value(value);
    } else if (key == "numbytes") {
        if (!pending_offset_)
            fail(errc::malformed_tar, "a sparse segment has no offset");
        add_segment(*std::exchange(pending_offset_, std::nullopt), unsigned_value(value));
    }
}

OVERMOUNT_DECL void framing::read_sparse_01(const std::string& map)
{
    entry_.segments.clear();
    for (std::size_t begin = 0; begin < map.size();) {
        const std::size_t middle = map.find(',', begin);
        if (middle == std::string::npos)
            fail(errc::malformed_tar, "the last segment of a sparse map has no size");
        const std::size_t end = std::min(map.find(',', middle + 1), map.size());
        if (end + 1 == map.size())
            fail(errc::malformed_tar, "a sparse map ends in a comma");
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
    if (offset > detail::largest_size || size > detail::largest_size ||
        (!known.empty() && offset < known.back().offset + known.back().size))
        fail(errc::malformed_tar, "sparse segments overlap, are not in order, or are too large");
    entry_.segments.push_back({offset, size});
}

OVERMOUNT_DECL void framing::read_gnu_map(const header& block, std::size_t begin, std::size_t count)
{
    for (std::size_t i = 0; i < count && block.at(begin + i * 24) != '\0'; ++i) {
        const auto offset = block.number(begin + i * 24, 12), size = block.number(begin + i * 24 + 12, 12);
        if (!offset || !size || *offset < 0 || *size < 0)
            fail(errc::malformed_tar, "the offset or size of a sparse segment is not a valid number");
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
        state_ = state::entry_ready;
    else if (entry_.segments.size() == before)
        fail(errc::malformed_tar, "a block of a sparse map has no segments, but says that more blocks follow");
}

// PAX 1.0: lines of decimal numbers (the number of segments, then offset and size of each), padded to whole blocks.
OVERMOUNT_DECL void framing::read_sparse_map()
{
    if (stored_left_ < block_size)
        fail(errc::malformed_tar, "a sparse map does not end within the entry's data");
    blocks_.insert(blocks_.end(), block_.begin(), block_.end());
    stored_left_ -= block_size;
    map_text_.append(reinterpret_cast<const char*>(block_.data()), block_.size());
    // Parse each complete line once; the number of segments in the first line says when to stop.
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
        fail(errc::malformed_tar, "a sparse map does not consist of lines of numbers");
    if (!complete)
        return;
    for (std::size_t i = 1; i < map_numbers_.size(); i += 2)
        add_segment(map_numbers_[i], map_numbers_[i + 1]);
    entry_.stored_size = stored_left_;
    state_ = state::entry_ready;
}

OVERMOUNT_DECL void framing::check_entry()
{
    if (entry_.path.size() > bounds_.path_bytes + 4 || entry_.link_target.size() > bounds_.path_bytes)
        fail(errc::path_too_long);
    segment_ = 0;
    segment_done_ = file_offset_ = 0;
    if (entry_.sparse) {
        if (entry_.type != entry_type::regular || !real_size_ || *real_size_ > detail::largest_size)
            fail(errc::malformed_tar, "a sparse file has no valid size, or is not a regular file");
        entry_.size = *real_size_;
        std::uint64_t sum = 0;
        for (const segment& piece : entry_.segments) {
            sum += piece.size;
            if (sum > detail::largest_size || piece.offset + piece.size > entry_.size)
                fail(errc::malformed_tar, "a sparse segment exceeds the size of its file");
        }
        if (sum != entry_.stored_size)
            fail(errc::malformed_tar, "the sizes of the sparse segments do not add up to the size of the data");
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
        return read_data(input); // recurses at most once: either the padding or the input is used up
    }
    data_ = piece;
    data_offset_ = entry_.sparse ? entry_.segments[segment_].offset + segment_done_ : file_offset_;
    advance(piece.size());
    return event::data;
}

// Accounts for `count` bytes of data that were read or skipped.
OVERMOUNT_DECL void framing::advance(std::uint64_t count)
{
    stored_left_ -= count;
    file_offset_ += count;
    while (entry_.sparse && count != 0) {
        const std::uint64_t step = std::min(count, entry_.segments[segment_].size - segment_done_);
        segment_done_ += step;
        count -= step;
        if (count != 0) {
            ++segment_;
            segment_done_ = 0;
        }
    }
}

OVERMOUNT_DECL void framing::skip(std::uint64_t count)
{
    count = std::min(count, skippable());
    offset_ += count;
    const std::uint64_t data = std::min(count, stored_left_);
    padding_left_ -= count - data;
    advance(data);
}

OVERMOUNT_DECL void framing::finish() const
{
    const bool between = (state_ == state::header || state_ == state::zero_block) && !has_pending_extension() &&
                         (partial_.empty() || partial_.size() == block_size);
    if (!between && state_ != state::after_end)
        throw error(errc::truncated_stream).at(stage::framing).entry(entry_.path);
}

} // namespace overmount::OVERMOUNT_ABI::tar

#endif
