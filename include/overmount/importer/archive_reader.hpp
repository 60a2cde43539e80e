#ifndef OVERMOUNT_IMPORTER_ARCHIVE_READER_HPP
#define OVERMOUNT_IMPORTER_ARCHIVE_READER_HPP

#include <overmount/codec/decoder.hpp>
#include <overmount/importer/archive_bytes.hpp>
#include <overmount/tar/framing.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Reads an image archive, uncompressed or compressed as a whole, member by member as its bytes arrive. For use in steps: it never
// blocks, but reports that it needs more input.
class archive_reader
{
public:
    enum class found
    {
        again, // call `next` again: skipping a long member is done in pieces
        wait,  // for more bytes of the archive
        member,
        end, // of the archive
    };

    archive_reader(std::unique_ptr<archive_bytes> source, const limits& bounds)
        : source_(std::move(source)), bounds_(unbounded(bounds)), frames_(bounds_)
    {}

    [[nodiscard]] archive_bytes& source() noexcept { return *source_; }

    // Advances to the next member, skipping what was not read of the current one.
    OVERMOUNT_LAZY [[nodiscard]] found next();
    [[nodiscard]] const tar::entry& entry() const noexcept { return frames_.entry(); }

    // The first 512 bytes of the member, or all if it is shorter; nullopt: wait for more. `read` returns them again.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::span<const std::byte>> head();

    // Reads the data of the member: the number of bytes, 0 at its end; nullopt: wait for more.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into);

private:
    // The size of an archive is not limited: it holds many layers, each with its own limit.
    static limits unbounded(limits bounds)
    {
        bounds.layer_bytes = bounds.stream_bytes = ~std::uint64_t{0} >> 1;
        return bounds;
    }

    OVERMOUNT_LAZY std::optional<std::size_t> read_data(std::span<std::byte> into);

    // Makes more decoded bytes of the archive available in `unframed_`; returns `member` if there are any.
    OVERMOUNT_LAZY found fill();

    static constexpr std::size_t decoded_size = 256 << 10;

    std::unique_ptr<archive_bytes> source_;
    limits bounds_;
    tar::framing frames_;
    std::optional<decoder> decoder_;
    std::unique_ptr<std::byte[]> decoded_;
    bool decoder_has_more_ = false;       // the decoder may have more output without further input
    std::size_t lent_ = 0;                // bytes of the source that `unframed_` points into; not yet consumed there
    std::span<const std::byte> unframed_; // bytes of the archive that `frames_` has not parsed yet
    std::span<const std::byte> data_;     // data of the member that was parsed but not read yet
    std::vector<std::byte> head_;
    std::size_t head_given_ = 0;
    bool member_ended_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/archive_reader.ipp>
#endif

#endif
