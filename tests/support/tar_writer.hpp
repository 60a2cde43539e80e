// Tar archives written by hand: what a test wants to say, valid or not, byte by byte.
#ifndef OVERMOUNT_TESTS_SUPPORT_TAR_WRITER_HPP
#define OVERMOUNT_TESTS_SUPPORT_TAR_WRITER_HPP

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::test {

using string_pairs = std::vector<std::pair<std::string, std::string>>;

// Where fields of a header block lie.
struct tar_field
{
    std::size_t offset, size;
};
namespace tar_fields {
inline constexpr tar_field name{0, 100}, mode{100, 8}, uid{108, 8}, gid{116, 8}, size{124, 12},
    mtime{136, 12}, checksum{148, 8}, type{156, 1}, link{157, 100}, magic{257, 8}, user{265, 32},
    group{297, 32}, major{329, 8}, minor{337, 8}, prefix{345, 155};
} // namespace tar_fields

// Puts text into a field of a header block, with zeros behind it.
inline void put_field(std::string& block, tar_field field, std::string_view text)
{
    block.replace(field.offset, field.size, field.size, '\0');
    block.replace(field.offset, std::min(text.size(), field.size), text.substr(0, field.size));
}

// Octal digits and a NUL, or, when they do not fit, zero: then a PAX record has it.
inline void put_number(std::string& block, tar_field field, std::uint64_t value)
{
    char digits[32];
    std::snprintf(digits, sizeof digits, "%0*llo", static_cast<int>(field.size - 1),
                  static_cast<unsigned long long>(value));
    put_field(block, field, std::strlen(digits) < field.size ? digits : "0");
}

inline void put_checksum(std::string& block)
{
    block.replace(tar_fields::checksum.offset, 8, 8, ' ');
    unsigned sum = 0;
    for (const char c : block)
        sum += static_cast<unsigned char>(c);
    char digits[16];
    std::snprintf(digits, sizeof digits, "%06o", sum);
    put_field(block, tar_fields::checksum, std::string(digits) + std::string("\0 ", 2));
}

// What all types of entry have. By name: `tar.file("a", "text", {.mode = 04755, .uid = 7})`.
struct tar_attributes
{
    std::optional<unsigned> mode = {}; // 0755 for directories, 0777 for links, else 0644
    std::uint64_t uid = 0;
    std::uint64_t gid = 0;
    std::int64_t mtime = 1'700'000'000;
    std::uint32_t mtime_ns = 0;
    string_pairs xattrs = {};                     // SCHILY.xattr.*
    string_pairs pax = {};                        // records as they are, behind our own
    std::function<void(std::string&)> tweak = {}; // changes the header block; its checksum is made afterwards
    std::function<void(std::string&)> corrupt = {}; // the same, but after the checksum
};

// Appends entries to an archive in memory. ustar, with a PAX header where that has no room.
class tar_writer
{
public:
    tar_writer& file(const std::string& path, std::string_view content, const tar_attributes& attributes = {})
    {
        return entry('0', path, "", attributes, content);
    }
    tar_writer& directory(const std::string& path, const tar_attributes& attributes = {})
    {
        return entry('5', path.ends_with('/') ? path : path + "/", "", attributes);
    }
    tar_writer& symlink(const std::string& path, const std::string& target,
                        const tar_attributes& attributes = {})
    {
        return entry('2', path, target, attributes);
    }
    tar_writer& hard_link(const std::string& path, const std::string& target,
                          const tar_attributes& attributes = {})
    {
        return entry('1', path, target, attributes);
    }
    tar_writer& character_device(const std::string& path, unsigned major, unsigned minor,
                                 const tar_attributes& attributes = {})
    {
        return entry('3', path, "", attributes, {}, major, minor);
    }
    tar_writer& block_device(const std::string& path, unsigned major, unsigned minor,
                             const tar_attributes& attributes = {})
    {
        return entry('4', path, "", attributes, {}, major, minor);
    }
    tar_writer& fifo(const std::string& path, const tar_attributes& attributes = {})
    {
        return entry('6', path, "", attributes);
    }
    // Deletes `path`, which names the thing that lower layers have.
    tar_writer& whiteout(const std::string& path)
    {
        const auto slash = path.rfind('/');
        const auto name = slash == std::string::npos ? 0 : slash + 1;
        return entry('0', path.substr(0, name) + ".wh." + path.substr(name), "", {.mtime = 0});
    }
    // Hides what lower layers have in the directory; "" is the root.
    tar_writer& opaque(const std::string& path)
    {
        return entry('0', (path.empty() ? "" : path + "/") + ".wh..wh..opq", "", {.mtime = 0});
    }

    // Any type, with the file's data behind it.
    tar_writer& entry(char type, const std::string& path, const std::string& target,
                      const tar_attributes& attributes, std::string_view content = {}, unsigned major = 0,
                      unsigned minor = 0)
    {
        namespace at = tar_fields;
        std::string block(512, '\0');
        string_pairs records;
        put_path(block, path, records);
        put_field(block, at::link, target);
        if (target.size() > at::link.size)
            records.emplace_back("linkpath", target);
        const unsigned usual = type == '5' ? 0755u : type == '2' ? 0777u : 0644u;
        put_number(block, at::mode, attributes.mode.value_or(usual));
        put_owner(block, attributes, records);
        put_number(block, at::size, content.size());
        put_time(block, attributes, records);
        put_field(block, at::type, std::string_view(&type, 1));
        put_field(block, at::magic, std::string_view("ustar\00000", 8));
        put_number(block, at::major, major);
        put_number(block, at::minor, minor);
        for (const auto& [name, value] : attributes.xattrs)
            records.emplace_back("SCHILY.xattr." + name, value);
        records.insert(records.end(), attributes.pax.begin(), attributes.pax.end());
        if (!records.empty())
            pax(records);
        if (attributes.tweak)
            attributes.tweak(block);
        put_checksum(block);
        if (attributes.corrupt)
            attributes.corrupt(block);
        return raw(block).data(content);
    }

    // A PAX header for the next entry, or a global one with type 'g'.
    tar_writer& pax(const string_pairs& records, char type = 'x')
    {
        std::string text;
        for (const auto& [key, value] : records)
            text += pax_record(key, value);
        return extension(type, "PaxHeaders/entry", text);
    }
    // A GNU long name ('L') or long link ('K') for the next entry.
    tar_writer& gnu_long(char type, const std::string& text)
    {
        return extension(type, "././@LongLink", text + std::string(1, '\0'));
    }
    // A header that belongs to the next one: type, name and data as they are.
    tar_writer& extension(char type, const std::string& name, std::string_view content)
    {
        std::string block(512, '\0');
        put_field(block, tar_fields::name, name);
        put_number(block, tar_fields::mode, 0644);
        put_number(block, tar_fields::uid, 0);
        put_number(block, tar_fields::gid, 0);
        put_number(block, tar_fields::size, content.size());
        put_number(block, tar_fields::mtime, 0);
        put_field(block, tar_fields::type, std::string_view(&type, 1));
        put_field(block, tar_fields::magic, std::string_view("ustar\00000", 8));
        put_checksum(block);
        return raw(block).data(content);
    }

    // Bytes as they are.
    tar_writer& raw(std::string_view bytes)
    {
        out_ += bytes;
        return *this;
    }
    // File data and their padding.
    tar_writer& data(std::string_view content)
    {
        out_ += content;
        out_.append((512 - content.size() % 512) % 512, '\0');
        return *this;
    }

    // What was written so far, without an end.
    [[nodiscard]] const std::string& bytes() const noexcept { return out_; }
    // The same, and the end marker.
    [[nodiscard]] std::string finish() const { return out_ + std::string(1024, '\0'); }

    // `LENGTH KEY=VALUE\n`, where the length counts its own digits.
    [[nodiscard]] static std::string pax_record(std::string_view key, std::string_view value)
    {
        const std::size_t rest = key.size() + value.size() + 3;
        std::size_t length = rest + 1;
        while (rest + std::to_string(length).size() != length)
            ++length;
        return std::to_string(length) + " " + std::string(key) + "=" + std::string(value) + "\n";
    }

private:
    static void put_path(std::string& block, const std::string& path, string_pairs& records)
    {
        put_field(block, tar_fields::name, path);
        if (path.size() <= tar_fields::name.size)
            return;
        // The last slash that leaves both parts short enough; a name must not be empty.
        const auto slash = path.rfind('/', std::min(path.size() - 2, tar_fields::prefix.size));
        if (slash != std::string::npos && slash > 0 && path.size() - slash - 1 <= tar_fields::name.size) {
            put_field(block, tar_fields::prefix, path.substr(0, slash));
            put_field(block, tar_fields::name, path.substr(slash + 1));
        } else {
            records.emplace_back("path", path);
        }
    }

    static void put_owner(std::string& block, const tar_attributes& attributes, string_pairs& records)
    {
        put_number(block, tar_fields::uid, attributes.uid);
        put_number(block, tar_fields::gid, attributes.gid);
        if (attributes.uid > 07777777)
            records.emplace_back("uid", std::to_string(attributes.uid));
        if (attributes.gid > 07777777)
            records.emplace_back("gid", std::to_string(attributes.gid));
    }

    static void put_time(std::string& block, const tar_attributes& attributes, string_pairs& records)
    {
        const bool fits = attributes.mtime >= 0 && attributes.mtime <= 077777777777;
        put_number(block, tar_fields::mtime, fits ? static_cast<std::uint64_t>(attributes.mtime) : 0);
        if (fits && attributes.mtime_ns == 0)
            return;
        // A decimal fraction counts away from zero, our nanoseconds always upwards.
        const bool turn = attributes.mtime < 0 && attributes.mtime_ns != 0;
        const auto whole = turn ? attributes.mtime + 1 : attributes.mtime;
        char text[64];
        std::snprintf(text, sizeof text, "%s%lld.%09u", turn && whole == 0 ? "-" : "",
                      static_cast<long long>(whole),
                      turn ? 1'000'000'000u - attributes.mtime_ns : attributes.mtime_ns);
        records.emplace_back("mtime", text);
    }

    std::string out_;
};

} // namespace overmount::test

#endif
