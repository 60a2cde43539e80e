#ifndef OVERMOUNT_MOUNT_IMPL_MOUNTINFO_IPP
#define OVERMOUNT_MOUNT_IMPL_MOUNTINFO_IPP

#include <overmount/mount/mountinfo.hpp>
#include <overmount/posix/fs.hpp>

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

// The kernel writes spaces and some other bytes as a backslash and three octal digits. Anything else is copied unchanged.
inline std::string decode_octal(std::string_view text)
{
    const auto octal = [](char c) { return c >= '0' && c <= '7'; };
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && text.size() - i > 3 && text[i + 1] >= '0' && text[i + 1] <= '3' &&
            octal(text[i + 2]) && octal(text[i + 3])) {
            out +=
                static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
            i += 3;
        } else {
            out += text[i];
        }
    }
    return out;
}

// Removes the text before the next `separator` from `rest` and returns it. `rest` is empty after the last part.
inline std::string_view cut(std::string_view& rest, char separator) noexcept
{
    const auto at = rest.find(separator);
    const auto part = rest.substr(0, at);
    rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
    return part;
}

// Splits before decoding: a comma that is part of a path is written in octal.
inline std::vector<std::string> split_options(std::string_view text)
{
    std::vector<std::string> out;
    while (!text.empty())
        out.push_back(decode_octal(cut(text, ',')));
    return out;
}

inline bool parse_id(std::string_view text, std::uint64_t& out) noexcept
{
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
    return code == std::errc() && end == text.data() + text.size();
}

inline std::optional<mountinfo_entry> parse_mountinfo_line(std::string_view line)
{
    mountinfo_entry out;
    if (!parse_id(cut(line, ' '), out.id) || !parse_id(cut(line, ' '), out.parent_id))
        return std::nullopt;
    std::string_view numbers = cut(line, ' ');
    std::uint64_t major = 0, minor = 0;
    if (!parse_id(cut(numbers, ':'), major) || !parse_id(numbers, minor))
        return std::nullopt;
    out.device = makedev(static_cast<unsigned>(major), static_cast<unsigned>(minor));
    out.root = decode_octal(cut(line, ' '));
    out.mount_point = decode_octal(cut(line, ' '));
    out.options = split_options(cut(line, ' '));
    // Any number of optional fields, terminated by a hyphen.
    std::string_view field;
    do {
        if (line.empty())
            return std::nullopt;
        field = cut(line, ' ');
    } while (field != "-");
    out.fs_type = decode_octal(cut(line, ' '));
    out.source = decode_octal(cut(line, ' ')); // may be empty
    out.super_options = split_options(line);
    if (out.root.empty() || out.mount_point.empty() || out.fs_type.empty())
        return std::nullopt;
    return out;
}

template <class Entries, class Predicate>
const mountinfo_entry* find_last(const Entries& entries, Predicate matches) noexcept
{
    const auto found = std::find_if(entries.rbegin(), entries.rend(), matches);
    return found == entries.rend() ? nullptr : &*found;
}

} // namespace detail

OVERMOUNT_DECL mountinfo mountinfo::parse(std::string_view text)
{
    mountinfo out;
    while (!text.empty())
        if (auto entry = detail::parse_mountinfo_line(detail::cut(text, '\n')))
            out.entries_.push_back(std::move(*entry));
    return out;
}

OVERMOUNT_DECL mountinfo mountinfo::read()
{
    static constexpr std::size_t limit = 256u << 20;
    static constexpr const char* file = "/proc/self/mountinfo";
    const auto fail = [](int number, const char* call) {
        return error::from_errno(number).at(stage::mount).operation(call).subject(file);
    };
    const unique_fd fd(::open(file, O_RDONLY | O_CLOEXEC));
    if (!fd)
        throw fail(errno, "open");
    std::string text;
    std::size_t used = 0;
    for (;;) {
        if (used == text.size())
            text.resize(std::max<std::size_t>(64 << 10, 2 * used));
        const ssize_t got = detail::uninterrupted([&] { return ::read(fd.get(), text.data() + used, text.size() - used); });
        if (got < 0)
            throw fail(errno, "read");
        if (got == 0)
            break;
        used += static_cast<std::size_t>(got);
        if (used > limit)
            throw fail(EFBIG, "read");
    }
    return parse(std::string_view(text).substr(0, used));
}

OVERMOUNT_DECL const mountinfo_entry* mountinfo::find_by_target(std::string_view path) const noexcept
{
    return detail::find_last(entries_,
                             [=](const mountinfo_entry& entry) { return entry.mount_point == path; });
}

OVERMOUNT_DECL const mountinfo_entry* mountinfo::find_by_id(std::uint64_t id) const noexcept
{
    return detail::find_last(entries_, [=](const mountinfo_entry& entry) { return entry.id == id; });
}

} // namespace overmount::OVERMOUNT_ABI

#endif
