#ifndef OVERMOUNT_TAR_ENTRY_WALK_HPP
#define OVERMOUNT_TAR_ENTRY_WALK_HPP

#include <overmount/io/diff_reader.hpp>
#include <overmount/tar/framing.hpp>

#include <algorithm>
#include <memory>

namespace overmount::inline OVERMOUNT_ABI::tar {

/// Bounds for a tar that a storage keeps: it was taken within those of its import, which may have been wider than those
/// of today.
[[nodiscard]] inline limits kept_limits()
{
    limits out;
    out.entries = out.layer_bytes = out.segments = ~std::uint64_t{0};
    out.extension_bytes = 1ull << 30;
    out.extensions = 1u << 20;
    out.path_bytes = out.name_bytes = out.path_depth = out.xattr_bytes = 1u << 30;
    return out;
}

/// Goes through a tar that is read from anywhere: its entries, and of each its data where they are wanted.
/// Not thread-safe; blocks as the reader does. Throws what `framing` and the reader throw.
template <diff_reader Reader>
class entry_walk
{
public:
    /// \param bounds hold for what is read here
    entry_walk(Reader reader, const limits& bounds) : reader_(std::move(reader)), frames_(bounds) {}

    /// Goes to the next entry; false behind the last one.
    [[nodiscard]] bool next()
    {
        for (;;) {
            const tar::event found = pull();
            if (found == tar::event::entry)
                return true;
            if (found == tar::event::need_input)
                return false;
        }
    }
    /// The same for an `entry_reader`.
    [[nodiscard]] bool next(located_entry& into)
    {
        if (!next())
            return false;
        into.entry = entry();
        into.offset = offset();
        return true;
    }

    [[nodiscard]] const tar::entry& entry() const noexcept { return frames_.entry(); }
    /// Where its first header block lies, from where the reader began. \pre `next` was called last
    [[nodiscard]] std::uint64_t offset() const noexcept
    {
        return frames_.stream_offset() - frames_.header_blocks().size();
    }

    /// The next piece of the entry's data, and where it belongs in the file; an empty one behind the last. Holes are
    /// left out.
    struct piece
    {
        std::uint64_t offset = 0;
        std::span<const std::byte> bytes;
    };
    [[nodiscard]] piece data()
    {
        const tar::event found = pull();
        if (found == tar::event::data)
            return {frames_.data_offset(), frames_.data()};
        return {};
    }

private:
    // `need_input` only at the end of the tar.
    tar::event pull()
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
    framing frames_;
    std::unique_ptr<std::byte[]> buffer_ = std::make_unique_for_overwrite<std::byte[]>(buffer_size);
    std::span<const std::byte> input_;
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif
