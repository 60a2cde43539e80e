// What is read from mountinfo, written again as the kernel writes, reads the same; lines do not mix.
#include "fuzz.hpp"

#include <overmount/mount/mountinfo.hpp>

#include <algorithm>
#include <string>

namespace {

using overmount::mountinfo;
using overmount::mountinfo_entry;

// As seq_escape() of Linux does; of other bytes the half is escaped as well, which means the same.
std::string encode(std::string_view text)
{
    std::string out;
    for (const char byte : text) {
        if (std::string_view(" \t\n\\,").find(byte) == std::string_view::npos && (byte & 1) != 0) {
            out += byte;
            continue;
        }
        out += '\\';
        for (const int shift : {6, 3, 0})
            out += static_cast<char>('0' + ((static_cast<unsigned char>(byte) >> shift) & 7));
    }
    return out;
}

// A comma after each: the last may be empty.
std::string encode(const std::vector<std::string>& options)
{
    std::string out;
    for (const std::string& option : options)
        out.append(encode(option)).append(",");
    return out;
}

std::string write(const mountinfo_entry& entry)
{
    return std::to_string(entry.id) + ' ' + std::to_string(entry.parent_id) + " 0:1 " + encode(entry.root) +
           ' ' + encode(entry.mount_point) + ' ' + encode(entry.options) + " shared:1 - " +
           encode(entry.fs_type) + ' ' + encode(entry.source) + ' ' + encode(entry.super_options) + '\n';
}

bool same(const mountinfo_entry& a, const mountinfo_entry& b)
{
    return a.id == b.id && a.parent_id == b.parent_id && a.root == b.root && a.mount_point == b.mount_point &&
           a.options == b.options && a.fs_type == b.fs_type && a.source == b.source &&
           a.super_options == b.super_options;
}

} // namespace

void check(std::string_view input)
{
    const mountinfo info = mountinfo::parse(input);
    const auto& entries = info.entries();
    MUST(entries.size() <= static_cast<std::size_t>(std::ranges::count(input, '\n')) + 1);
    std::string text;
    for (const mountinfo_entry& entry : entries) {
        MUST(!entry.root.empty() && !entry.mount_point.empty() && !entry.fs_type.empty());
        text += write(entry);
    }
    const mountinfo again = mountinfo::parse(text);
    MUST(std::ranges::equal(entries, again.entries(), same));
    // An odd line takes no other with it.
    const std::string more = std::string(input) + "\n1 2 0:1 / /m rw - t s rw\n";
    MUST(mountinfo::parse(more).entries().size() == entries.size() + 1);
    for (const mountinfo_entry& entry : entries) {
        const mountinfo_entry* target = info.find_by_target(entry.mount_point);
        MUST(target && target >= &entry && target->mount_point == entry.mount_point);
        if (&entry - entries.data() == 7) // of a few only: each search is linear
            break;
    }
}
