#ifndef OVERMOUNT_IMPORTER_ARCHIVE_READER_HPP
#define OVERMOUNT_IMPORTER_ARCHIVE_READER_HPP

#include <overmount/codec/decoder.hpp>
#include <overmount/importer/archive_bytes.hpp>
#include <overmount/tar/framing.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Reads an image archive that comes in pieces, compressed as a whole or not, member by member. For steps:
// what it lacks at the moment it says, and never waits.
class archive_reader
{
public:
    enum class found
    {
        again, // call once more: a long way is cut in pieces
        wait,  // for the source
        member,
        end, // of the whole source
    };

    archive_reader(std::unique_ptr<archive_bytes> source, const limits& bounds)
        : source_(std::move(source)), bounds_(unbounded(bounds)), frames_(bounds_)
    {}

    [[nodiscard]] archive_bytes& source() noexcept { return *source_; }

    // Goes to the next member; the rest of this one is left out.
    OVERMOUNT_LAZY [[nodiscard]] found next();
    [[nodiscard]] const tar::entry& entry() const noexcept { return frames_.entry(); }

    // The member's first 512 bytes, or all it has; `read` gives them again.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::span<const std::byte>> head();

    // The member's data, piece by piece: 0 at its end, nothing where it has to be waited for.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into);

private:
    // An archive is as large as its layers, which have limits of their own.
    static limits unbounded(limits bounds)
    {
        bounds.layer_bytes = bounds.stream_bytes = ~std::uint64_t{0} >> 1;
        return bounds;
    }

    OVERMOUNT_LAZY std::optional<std::size_t> take(std::span<std::byte> into);

    // Gets bytes of the archive into `rest_`: `member` when there are some.
    OVERMOUNT_LAZY found fill();

    static constexpr std::size_t decoded_size = 256 << 10;

    std::unique_ptr<archive_bytes> source_;
    limits bounds_;
    tar::framing frames_;
    std::optional<decoder> decoder_;
    std::unique_ptr<std::byte[]> decoded_;
    bool more_ = false;               // the decoder may have more without any input
    std::size_t lent_ = 0;            // bytes of the source's front that `rest_` began with
    std::span<const std::byte> rest_; // of the archive, not yet framed
    std::span<const std::byte> data_; // of the member, not yet read
    std::vector<std::byte> head_;
    std::size_t head_given_ = 0;
    bool over_ = false; // the member
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/archive_reader.ipp>
#endif

#endif
