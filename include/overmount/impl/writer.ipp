// What libarchive writes. It and checker.ipp are the files that see libarchive.
#ifndef OVERMOUNT_IMPL_WRITER_IPP
#define OVERMOUNT_IMPL_WRITER_IPP

#include <overmount/tar/writer.hpp>

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <memory>
#include <new>

namespace overmount::inline OVERMOUNT_ABI::tar {
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

} // namespace detail

OVERMOUNT_DECL std::string make_header(const entry& made)
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
    const bool ascii = std::ranges::all_of(made.path + made.link_target, [](char c) { return (c & 0x80) == 0; });
    if (!fields || !handle || ::archive_write_set_format_pax_restricted(handle.get()) != ARCHIVE_OK ||
        // Other names are bytes that the locale says nothing of. It costs a record that GNU tar warns of.
        (!ascii &&
         ::archive_write_set_format_option(handle.get(), "pax", "hdrcharset", "BINARY") != ARCHIVE_OK) ||
        ::archive_write_set_bytes_per_block(handle.get(), 0) != ARCHIVE_OK ||
        ::archive_write_open(handle.get(), &out, nullptr, &detail::header_sink::write, nullptr) != ARCHIVE_OK)
        throw std::bad_alloc();
    archive_entry* const to = fields.get();
    ::archive_entry_set_pathname(to, made.path.c_str());
    ::archive_entry_set_filetype(to, detail::file_type_of(made.type));
    ::archive_entry_set_perm(to, static_cast<mode_t>(made.mode & 07777));
    ::archive_entry_set_uid(to, made.uid);
    ::archive_entry_set_gid(to, made.gid);
    ::archive_entry_set_mtime(to, made.mtime.seconds, static_cast<long>(made.mtime.nanoseconds));
    ::archive_entry_set_size(to, made.type == entry_type::regular ? static_cast<la_int64_t>(made.size) : 0);
    if (made.type == entry_type::hard_link)
        ::archive_entry_set_hardlink(to, made.link_target.c_str());
    if (made.type == entry_type::symbolic_link)
        ::archive_entry_set_symlink(to, made.link_target.c_str());
    if (made.type == entry_type::character_device || made.type == entry_type::block_device)
        ::archive_entry_set_rdev(to, makedev(made.device_major, made.device_minor));
    for (const xattr& one : made.xattrs)
        ::archive_entry_xattr_add_entry(to, one.name.c_str(), one.value.data(), one.value.size());
    if (made.path.empty() || ::archive_write_header(handle.get(), to) != ARCHIVE_OK || out.header.empty())
        throw error(errc::malformed_tar).at(stage::framing).entry(made.path).detail("no header can hold it");
    return out.header;
}

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif
