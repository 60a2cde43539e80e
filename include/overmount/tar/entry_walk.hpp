#ifndef OVERMOUNT_TAR_ENTRY_WALK_HPP
#define OVERMOUNT_TAR_ENTRY_WALK_HPP

#include <overmount/io/diff_reader.hpp>
#include <overmount/tar/framing.hpp>

#include <algorithm>
#include <memory>

namespace overmount::OVERMOUNT_ABI::detail {

// Limits for a tar that a storage already holds. The import checked it against its own limits, which may have been wider
// than the current ones.
[[nodiscard]] inline limits kept_limits()
{
    limits out;
    out.entries = out.layer_bytes = out.segments = ~std::uint64_t{0};
    out.extension_bytes = 1ull << 30;
    out.extensions = 1u << 20;
    out.path_bytes = out.name_bytes = out.path_depth = out.xattr_bytes = 1u << 30;
    return out;
}

// Iterates over the entries of a tar that any reader provides; the caller may read the data of each entry.
// Not thread-safe; blocks when the reader blocks. Throws what `framing` and the reader throw.
template <diff_reader Reader>
class entry_walk
{
public:
    // \param bounds limits that the tar is checked against
    entry_walk(Reader reader, const limits& bounds) : reader_(std::move(reader)), frames_(bounds) {}

    // Advances to the next entry; false after the last one.
    [[nodiscard]] bool next()
    {
        for (;;) {
            const tar::event found = next_event();
            if (found == tar::event::entry)
                return true;
            if (found == tar::event::need_input)
                return false;
        }
    }
    // The same, in the form that the concept `entry_reader` requires: copies the entry and its offset to `into`.
    [[nodiscard]] bool next(tar::located_entry& into)
    {
        if (!next())
            return false;
        into.entry = entry();
        into.offset = offset();
        return true;
    }

    [[nodiscard]] const tar::entry& entry() const noexcept { return frames_.entry(); }
    // Offset of the entry's first header block, counted from where the reader began.
    // \pre `next` was the last call, not `data`
    [[nodiscard]] std::uint64_t offset() const noexcept
    {
        return frames_.stream_offset() - frames_.header_blocks().size();
    }

    // A piece of the entry's data, and its offset in the file.
    struct piece
    {
        std::uint64_t offset = 0;
        std::span<const std::byte> bytes;
    };
    // The next piece of the entry's data; an empty one after the last. Holes are skipped.
    [[nodiscard]] piece data()
    {
        const tar::event found = next_event();
        if (found == tar::event::data)
            return {frames_.data_offset(), frames_.data()};
        return {};
    }

private:
    // Reads input as needed; returns `need_input` only at the end of the tar.
    tar::event next_event()
    {
        for (;;) {
            const tar::event found = frames_.next(input_);
            if (found != tar::event::need_input)
                return found;
            const std::size_t count = reader_.read({buffer_.get(), buffer_size});
            input_ = {buffer_.get(), count};
            if (count == 0) {
                frames_.finish();
                return found;
            }
        }
    }

    static constexpr std::size_t buffer_size = 128 << 10;
    Reader reader_;
    tar::framing frames_;
    std::unique_ptr<std::byte[]> buffer_ = std::make_unique_for_overwrite<std::byte[]>(buffer_size);
    std::span<const std::byte> input_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
