// All uses of libarchive: the comparison of entries, and the writing of headers.
#ifndef OVERMOUNT_TAR_IMPL_LIBARCHIVE_IPP
#define OVERMOUNT_TAR_IMPL_LIBARCHIVE_IPP

#include <overmount/tar/comparer.hpp>
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

namespace overmount::OVERMOUNT_ABI::detail {

// One read handle for the whole layer. Its callbacks supply the header blocks of the current entry, and count the bytes
// that libarchive skips to reach the next header.
struct comparer::state
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
        // Where libarchive skips data by reading it (too little for a seek), it gets zeros.
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

OVERMOUNT_DECL comparer::comparer() : state_(std::make_unique<state>()) {}
OVERMOUNT_DECL comparer::comparer(comparer&&) noexcept = default;
OVERMOUNT_DECL comparer& comparer::operator=(comparer&&) noexcept = default;
OVERMOUNT_DECL comparer::~comparer() = default;

inline mode_t mode_of(tar::entry_type type) noexcept
{
    switch (type) {
    case tar::entry_type::symbolic_link: return S_IFLNK;
    case tar::entry_type::character_device: return S_IFCHR;
    case tar::entry_type::block_device: return S_IFBLK;
    case tar::entry_type::directory: return S_IFDIR;
    case tar::entry_type::fifo: return S_IFIFO;
    default: return S_IFREG;
    }
}

[[noreturn]] inline void disagree(const tar::entry& expected, const char* what)
{
    throw error(errc::tar_disagreement).at(stage::framing).entry(expected.path).detail(what);
}

OVERMOUNT_DECL void comparer::compare(const tar::entry& expected, std::span<const std::byte> blocks, std::uint64_t data_bytes)
{
    state& mine = *state_;
    mine.blocks = blocks;
    if (!mine.handle) {
        mine.handle.reset(::archive_read_new());
        archive* const handle = mine.handle.get();
        if (handle == nullptr || ::archive_read_support_format_tar(handle) != ARCHIVE_OK)
            throw std::bad_alloc();
        if (::archive_read_open2(handle, &mine, nullptr, &state::read, &state::skip, nullptr) != ARCHIVE_OK)
            disagree(expected, "libarchive does not recognise the tar format");
    }
    archive_entry* seen = nullptr;
    const int result = ::archive_read_next_header(mine.handle.get(), &seen);
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
        disagree(expected, "libarchive cannot read the header");
    if (!mine.blocks.empty())
        disagree(expected, "libarchive reads fewer header blocks for this entry");
    const bool link = ::archive_entry_hardlink(seen) != nullptr;
    if (link != (expected.type == tar::entry_type::hard_link))
        disagree(expected, "libarchive sees a different type");
    if (!link && ::archive_entry_filetype(seen) != mode_of(expected.type))
        disagree(expected, "libarchive sees a different type");
    if (expected.type == tar::entry_type::regular &&
        ::archive_entry_size(seen) != static_cast<la_int64_t>(expected.size))
        disagree(expected, "libarchive sees a different size");
    // Let libarchive skip the data now: this tells where it expects the next header, even after the last entry.
    mine.left_to_skip = data_bytes;
    if (::archive_read_data_skip(mine.handle.get()) != ARCHIVE_OK || mine.wrong_skip || mine.left_to_skip != 0)
        disagree(expected, "libarchive expects the next header at a different offset");
}

} // namespace overmount::OVERMOUNT_ABI::detail

namespace overmount::OVERMOUNT_ABI::tar {
namespace detail {

// Collects the header, then refuses all further output: on close, libarchive would write the entry's whole data as zeros.
struct header_sink
{
    std::string header;
    bool closed = false;

    static la_ssize_t write(archive*, void* self, const void* bytes, std::size_t size)
    {
        auto& to = *static_cast<header_sink*>(self);
        if (to.closed)
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

// The time to pass to libarchive. It writes seconds, a point and nanoseconds as given, so before 1970 both must count away from
// zero. It cannot write `-0`: in the last second before 1970 it gets `-1`, which `with_exact_records` replaces.
inline timestamp libarchive_time(timestamp time) noexcept
{
    if (time.seconds >= 0 || time.nanoseconds == 0)
        return time;
    return {time.seconds == -1 ? -1 : time.seconds + 1, 1'000'000'000 - time.nanoseconds};
}

inline std::string pax_record(std::string_view key, std::string_view value)
{
    const std::size_t without_length = key.size() + value.size() + 3; // blank, `=` and newline
    std::size_t size = without_length + 1;
    while (size != without_length + std::to_string(size).size())
        size = without_length + std::to_string(size).size();
    return std::to_string(size).append(" ").append(key).append("=").append(value).append("\n");
}

// Replaces the PAX records that libarchive does not write exactly: xattrs, whose names it encodes in its own way, and the time
// in the last second before 1970, which lacks its sign. `headers` begins with a PAX header; its records are written anew.
inline std::string with_exact_records(const std::string& headers, const entry& made)
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
                "an extended attribute whose name contains = cannot be stored in a tar");
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

OVERMOUNT_DECL std::string make_header(const entry& made)
{
    struct release
    {
        detail::header_sink* sink;
        void operator()(archive* opened) const noexcept
        {
            sink->closed = true;
            ::archive_write_free(opened);
        }
        void operator()(archive_entry* owned) const noexcept { ::archive_entry_free(owned); }
    };
    detail::header_sink out; // must outlive the handle
    const std::unique_ptr<archive_entry, release> fields(::archive_entry_new(), release{&out});
    const std::unique_ptr<archive, release> handle(::archive_write_new(), release{&out});
    const std::string names = made.path + made.link_target;
    const bool ascii = std::all_of(names.begin(), names.end(), [](char c) { return (c & 0x80) == 0; });
    // The restricted format writes PAX records only where ustar does not suffice, but not for a fraction of a second alone.
    const auto set_format =
        made.mtime.nanoseconds == 0 ? ::archive_write_set_format_pax_restricted : ::archive_write_set_format_pax;
    if (!fields || !handle || set_format(handle.get()) != ARCHIVE_OK ||
        // By default each xattr is written twice, the second time as LIBARCHIVE.xattr, which only libarchive reads.
        ::archive_write_set_format_option(handle.get(), "pax", "xattrheader", "SCHILY") != ARCHIVE_OK ||
        // Names that are not ASCII are bytes in no known encoding. This adds a record that GNU tar warns about.
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
    const timestamp time = detail::libarchive_time(made.mtime);
    ::archive_entry_set_mtime(to, time.seconds, static_cast<long>(time.nanoseconds));
    ::archive_entry_set_size(to, made.type == entry_type::regular ? static_cast<la_int64_t>(made.size) : 0);
    if (made.type == entry_type::hard_link)
        ::archive_entry_set_hardlink(to, made.link_target.c_str());
    if (made.type == entry_type::symbolic_link)
        ::archive_entry_set_symlink(to, made.link_target.c_str());
    if (made.type == entry_type::character_device || made.type == entry_type::block_device)
        ::archive_entry_set_rdev(to, makedev(made.device_major, made.device_minor));
    if (!made.xattrs.empty()) // forces a PAX header; `with_exact_records` replaces this attribute with the real ones
        ::archive_entry_xattr_add_entry(to, "user", "", 0);
    if (made.path.empty() || ::archive_write_header(handle.get(), to) != ARCHIVE_OK || out.header.empty())
        throw error(errc::malformed_tar).at(stage::framing).entry(made.path).detail("no tar header can represent this entry");
    const bool minus_zero = made.mtime.seconds == -1 && made.mtime.nanoseconds != 0;
    return minus_zero || !made.xattrs.empty() ? detail::with_exact_records(out.header, made) : out.header;
}

} // namespace overmount::OVERMOUNT_ABI::tar

#endif
