// What libarchive reads and writes for us: the one file that sees it.
#ifndef OVERMOUNT_TAR_IMPL_LIBARCHIVE_IPP
#define OVERMOUNT_TAR_IMPL_LIBARCHIVE_IPP

#include <overmount/tar/checker.hpp>
#include <overmount/tar/header.hpp>
#include <overmount/tar/writer.hpp>

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>
#include <new>

namespace overmount::inline OVERMOUNT_ABI::tar {

// One read handle for the whole layer. Its callbacks hand out the blocks of the entry at hand, and note how many
// bytes libarchive passes over to come to the next header.
struct checker::state
{
    struct release
    {
        void operator()(archive* opened) const noexcept { ::archive_read_free(opened); }
    };
    std::unique_ptr<archive, release> handle;
    std::span<const std::byte> blocks;
    std::uint64_t left_to_skip = 0;
    bool wrong_skip = false;

    static la_ssize_t read(archive*, void* self, const void** buffer)
    {
        auto& mine = *static_cast<state*>(self);
        // Data that are passed over by reading, where they are too few for a seek, read as zeros.
        static constexpr std::byte zeros[8192]{};
        if (mine.left_to_skip != 0) {
            const auto size = std::min<std::uint64_t>(mine.left_to_skip, sizeof zeros);
            mine.left_to_skip -= size;
            *buffer = zeros;
            return static_cast<la_ssize_t>(size);
        }
        *buffer = mine.blocks.data();
        const std::size_t size = mine.blocks.size();
        mine.blocks = {};
        return static_cast<la_ssize_t>(size);
    }
    static la_int64_t skip(archive*, void* self, la_int64_t request)
    {
        auto& mine = *static_cast<state*>(self);
        if (request < 0 || static_cast<std::uint64_t>(request) > mine.left_to_skip) {
            mine.wrong_skip = true;
            return 0;
        }
        mine.left_to_skip -= static_cast<std::uint64_t>(request);
        return request;
    }
};

OVERMOUNT_LAZY_BODY checker::checker() : state_(std::make_unique<state>()) {}
OVERMOUNT_DECL checker::checker(checker&&) noexcept = default;
OVERMOUNT_DECL checker& checker::operator=(checker&&) noexcept = default;
OVERMOUNT_DECL checker::~checker() = default;

namespace detail {

inline mode_t mode_of(entry_type type) noexcept
{
    switch (type) {
    case entry_type::symbolic_link: return S_IFLNK;
    case entry_type::character_device: return S_IFCHR;
    case entry_type::block_device: return S_IFBLK;
    case entry_type::directory: return S_IFDIR;
    case entry_type::fifo: return S_IFIFO;
    default: return S_IFREG;
    }
}

OVERMOUNT_LAZY [[noreturn]] inline void disagree(const entry& expected, const char* what)
{
    throw error(errc::tar_disagreement).at(stage::framing).entry(expected.path).detail(what);
}

} // namespace detail

OVERMOUNT_LAZY_BODY void checker::check(const entry& expected, std::span<const std::byte> blocks, std::uint64_t data_bytes)
{
    state& mine = *state_;
    mine.blocks = blocks;
    if (!mine.handle) {
        mine.handle.reset(::archive_read_new());
        archive* const handle = mine.handle.get();
        if (handle == nullptr || ::archive_read_support_format_tar(handle) != ARCHIVE_OK)
            throw std::bad_alloc();
        if (::archive_read_open2(handle, &mine, nullptr, &state::read, &state::skip, nullptr) != ARCHIVE_OK)
            detail::disagree(expected, "libarchive takes it for no tar");
    }
    archive_entry* seen = nullptr;
    const int result = ::archive_read_next_header(mine.handle.get(), &seen);
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
        detail::disagree(expected, "libarchive cannot read it");
    if (!mine.blocks.empty())
        detail::disagree(expected, "libarchive reads fewer header blocks");
    const bool link = ::archive_entry_hardlink(seen) != nullptr;
    if (link != (expected.type == entry_type::hard_link))
        detail::disagree(expected, "libarchive sees another type");
    if (!link && ::archive_entry_filetype(seen) != detail::mode_of(expected.type))
        detail::disagree(expected, "libarchive sees another type");
    if (expected.type == entry_type::regular &&
        ::archive_entry_size(seen) != static_cast<la_int64_t>(expected.size))
        detail::disagree(expected, "libarchive sees another size");
    // Passing over the data at once tells where it would look for the next header, also of the last entry.
    mine.left_to_skip = data_bytes;
    if (::archive_read_data_skip(mine.handle.get()) != ARCHIVE_OK || mine.wrong_skip || mine.left_to_skip != 0)
        detail::disagree(expected, "libarchive looks for the next header elsewhere");
}

namespace detail {

// Takes the header, then nothing more: what closes the archive would write the entry's data as zeros, however many.
struct header_sink
{
    std::string header;
    bool full = false;

    static la_ssize_t write(archive*, void* self, const void* bytes, std::size_t size)
    {
        auto& to = *static_cast<header_sink*>(self);
        if (to.full)
            return -1;
        to.header.append(static_cast<const char*>(bytes), size);
        return static_cast<la_ssize_t>(size);
    }
};

inline unsigned file_type_of(entry_type type) noexcept
{
    switch (type) {
    case entry_type::symbolic_link: return AE_IFLNK;
    case entry_type::character_device: return AE_IFCHR;
    case entry_type::block_device: return AE_IFBLK;
    case entry_type::directory: return AE_IFDIR;
    case entry_type::fifo: return AE_IFIFO;
    default: return AE_IFREG;
    }
}

// It writes seconds, a point and nanoseconds as they are: before 1970 they are to count away from zero. It cannot write
// a zero with a sign: for the last second before 1970 it is given a one.
inline timestamp as_libarchive_writes(timestamp time) noexcept
{
    if (time.seconds >= 0 || time.nanoseconds == 0)
        return time;
    return {time.seconds == -1 ? -1 : time.seconds + 1, 1'000'000'000 - time.nanoseconds};
}

OVERMOUNT_LAZY inline std::string pax_record(std::string_view key, std::string_view value)
{
    const std::size_t rest = key.size() + value.size() + 3; // a blank, a sign, a line's end
    std::size_t size = rest + 1;
    while (size != rest + std::to_string(size).size())
        size = rest + std::to_string(size).size();
    return std::to_string(size).append(" ").append(key).append("=").append(value).append("\n");
}

// What libarchive writes otherwise than it is: names of xattrs, which it encodes in a way of its own, and the sign of a
// time in the last second before 1970. `headers` begins with a PAX header, whose records are made anew.
OVERMOUNT_LAZY inline std::string corrected(const std::string& headers, const entry& made)
{
    const std::span<const std::byte> block = std::as_bytes(std::span(headers).first(block_size));
    const auto size = static_cast<std::size_t>(header(block).number(124, 12).value_or(0));
    std::string records;
    for (std::string_view left = std::string_view(headers).substr(block_size, size); !left.empty();) {
        std::size_t length = 0;
        std::from_chars(left.data(), left.data() + left.size(), length);
        const std::string_view record = left.substr(0, length);
        const std::string_view key = record.substr(record.find(' ') + 1);
        if (key.starts_with("mtime=-1.") && made.mtime.seconds == -1)
            records += std::string(record).replace(record.find("=-1.") + 2, 1, "0");
        else if (!key.starts_with("SCHILY.xattr."))
            records += record;
        left.remove_prefix(length);
    }
    for (const xattr& one : made.xattrs) {
        if (one.name.find('=') != std::string::npos)
            throw error(errc::malformed_tar).at(stage::framing).entry(made.path).subject(one.name).detail(
                "no header can hold an xattr of that name");
        records += pax_record("SCHILY.xattr." + one.name, one.value);
    }
    std::string out = headers.substr(0, block_size);
    char number[13];
    std::snprintf(number, sizeof number, "%011zo", records.size());
    out.replace(124, 12, number, 12);
    out.replace(148, 8, 8, ' ');
    unsigned sum = 0;
    for (const char c : out)
        sum += static_cast<unsigned char>(c);
    std::snprintf(number, sizeof number, "%06o", sum);
    out.replace(148, 7, number, 7);
    out += records;
    out.resize((out.size() + block_size - 1) / block_size * block_size);
    return out + headers.substr(block_size + (size + block_size - 1) / block_size * block_size);
}

} // namespace detail

OVERMOUNT_LAZY_BODY std::string make_header(const entry& made)
{
    struct release
    {
        detail::header_sink* sink;
        void operator()(archive* opened) const noexcept
        {
            sink->full = true;
            ::archive_write_free(opened);
        }
        void operator()(archive_entry* owned) const noexcept { ::archive_entry_free(owned); }
    };
    detail::header_sink out; // outlives the handle
    const std::unique_ptr<archive_entry, release> fields(::archive_entry_new(), release{&out});
    const std::unique_ptr<archive, release> handle(::archive_write_new(), release{&out});
    // One block of output is one block of a tar: it is given out at once.
    const std::string names = made.path + made.link_target;
    const bool ascii = std::all_of(names.begin(), names.end(), [](char c) { return (c & 0x80) == 0; });
    // The restricted form has no records where ustar will do; it takes a fraction of a second for no reason to have one.
    const auto set_format =
        made.mtime.nanoseconds == 0 ? ::archive_write_set_format_pax_restricted : ::archive_write_set_format_pax;
    if (!fields || !handle || set_format(handle.get()) != ARCHIVE_OK ||
        // By default each xattr is written twice, in a second spelling that only libarchive reads.
        ::archive_write_set_format_option(handle.get(), "pax", "xattrheader", "SCHILY") != ARCHIVE_OK ||
        // Other names are bytes that the locale says nothing of. It costs a record that GNU tar warns of.
        (!ascii &&
         ::archive_write_set_format_option(handle.get(), "pax", "hdrcharset", "BINARY") != ARCHIVE_OK) ||
        ::archive_write_set_bytes_per_block(handle.get(), 0) != ARCHIVE_OK ||
        ::archive_write_open(handle.get(), &out, nullptr, &detail::header_sink::write, nullptr) != ARCHIVE_OK)
        throw std::bad_alloc();
    archive_entry* const to = fields.get();
    ::archive_entry_set_pathname(to, made.path.c_str());
    ::archive_entry_set_filetype(to, detail::file_type_of(made.type));
    ::archive_entry_set_perm(to, made.mode & 07777);
    ::archive_entry_set_uid(to, made.uid);
    ::archive_entry_set_gid(to, made.gid);
    const timestamp time = detail::as_libarchive_writes(made.mtime);
    ::archive_entry_set_mtime(to, time.seconds, static_cast<long>(time.nanoseconds));
    ::archive_entry_set_size(to, made.type == entry_type::regular ? static_cast<la_int64_t>(made.size) : 0);
    if (made.type == entry_type::hard_link)
        ::archive_entry_set_hardlink(to, made.link_target.c_str());
    if (made.type == entry_type::symbolic_link)
        ::archive_entry_set_symlink(to, made.link_target.c_str());
    if (made.type == entry_type::character_device || made.type == entry_type::block_device)
        ::archive_entry_set_rdev(to, makedev(made.device_major, made.device_minor));
    if (!made.xattrs.empty()) // so that there is a PAX header; `corrected` puts the real ones in it
        ::archive_entry_xattr_add_entry(to, "user", "", 0);
    if (made.path.empty() || ::archive_write_header(handle.get(), to) != ARCHIVE_OK || out.header.empty())
        throw error(errc::malformed_tar).at(stage::framing).entry(made.path).detail("no header can hold it");
    const bool minus_zero = made.mtime.seconds == -1 && made.mtime.nanoseconds != 0;
    return minus_zero || !made.xattrs.empty() ? detail::corrected(out.header, made) : out.header;
}

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif
