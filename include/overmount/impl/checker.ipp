// What libarchive reads. It and writer.ipp are the files that see libarchive.
#ifndef OVERMOUNT_IMPL_CHECKER_IPP
#define OVERMOUNT_IMPL_CHECKER_IPP

#include <overmount/tar/checker.hpp>

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include <algorithm>
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

OVERMOUNT_DECL checker::checker() : state_(std::make_unique<state>()) {}
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

[[noreturn]] inline void disagree(const entry& expected, const char* what)
{
    throw error(errc::tar_disagreement).at(stage::framing).entry(expected.path).detail(what);
}

} // namespace detail

OVERMOUNT_DECL void checker::check(const entry& expected, std::span<const std::byte> blocks, std::uint64_t data_bytes)
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

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif
