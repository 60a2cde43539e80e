#ifndef OVERMOUNT_IMPORTER_LAYER_SOURCE_HPP
#define OVERMOUNT_IMPORTER_LAYER_SOURCE_HPP

#include <overmount/io/byte_stream.hpp>
#include <overmount/posix/file_range.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

/// Where the bytes of a layer's blob come from. Cheap to copy; copies share what it holds.
///
/// | form | for | read |
/// |---|---|---|
/// | a range of a local file | archives, layouts | by workers, by offset, without a coroutine: the fastest |
/// | a function that opens a stream | registries, stores, sockets | as the bytes come; nobody waits for them but this layer |
/// | gone by | a member of an archive that is read once | when it came by: the repository unpacked it then |
class layer_source
{
public:
    /// Gives the bytes from their start. Called at most once for each time that the layer is to be read, on the executor of the
    /// operation, with its cancellation, when the layer was claimed and a place for it is free; never on a worker.
    using opener = std::function<boost::asio::awaitable<byte_stream>()>;

    layer_source(file_range bytes) : size_(bytes.size()), file_(std::move(bytes)) {} // NOLINT: this is what it is

    /// \param open lives until the stream that it gave is destroyed, and as long as this
    /// \param size of all of them, in bytes, where it is known: other than that many are `truncated_stream` or `size_mismatch`
    explicit layer_source(opener open, std::optional<std::uint64_t> size = std::nullopt)
        : size_(size), open_(detail::new_shared<const opener>(std::move(open)))
    {}

    /// \param size of the member, in bytes
    [[nodiscard]] static layer_source gone_by(std::uint64_t size)
    {
        layer_source out;
        out.size_ = size;
        return out;
    }

    /// In bytes, where it is known before all of them are read.
    [[nodiscard]] std::optional<std::uint64_t> size() const noexcept { return size_; }
    [[nodiscard]] bool is_gone_by() const noexcept { return !file_ && !open_; }
    /// Nothing where it is no range of a file.
    [[nodiscard]] const file_range* file() const noexcept { return file_ ? &*file_ : nullptr; }
    /// Of the second form alone.
    [[nodiscard]] boost::asio::awaitable<byte_stream> open() const { return (*open_)(); }

private:
    layer_source() = default;

    std::optional<std::uint64_t> size_;
    std::optional<file_range> file_;
    std::shared_ptr<const opener> open_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
