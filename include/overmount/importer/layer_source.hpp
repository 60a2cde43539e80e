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

namespace overmount::OVERMOUNT_ABI {

/// Where the bytes of a layer's blob come from. Cheap to copy; copies share the file or function.
///
/// | form | for | how it is read |
/// |---|---|---|
/// | a range of a local file | archives, layouts | by worker threads, by offset, without a coroutine: the fastest form |
/// | a function that opens a stream | registries, stores, sockets | as the bytes arrive; only this layer waits for them |
/// | gone by | members of an archive that is read once | not at all: the bytes have already passed, and were unpacked then |
class layer_source
{
public:
    /// Opens a stream of the bytes, from their start. Called at most once for each time that the layer is read, after the layer was
    /// claimed and a permit for it is free; on the executor of the operation, never on a worker thread, and with the cancellation
    /// of the operation.
    using opener = std::function<boost::asio::awaitable<byte_stream>()>;

    layer_source(file_range bytes) : size_(bytes.size()), file_(std::move(bytes)) {} // NOLINT: implicit on purpose

    /// \param open kept alive by this object, and at least until the stream that it returned is destroyed
    /// \param size of the blob in bytes, if it is known: with fewer or more the import fails with `truncated_stream` or `size_mismatch`
    explicit layer_source(opener open, std::optional<std::uint64_t> size = std::nullopt)
        : size_(size), open_(detail::new_shared<const opener>(std::move(open)))
    {}

    /// The third form: the blob was a member of an archive that is read once, and can no longer be read.
    /// \param size of the member, in bytes
    [[nodiscard]] static layer_source gone_by(std::uint64_t size)
    {
        layer_source out;
        out.size_ = size;
        return out;
    }

    /// Size of the blob in bytes, if it is known in advance.
    [[nodiscard]] std::optional<std::uint64_t> size() const noexcept { return size_; }
    [[nodiscard]] bool is_gone_by() const noexcept { return !file_ && !open_; }
    /// The range of a file, or null if this is another form.
    [[nodiscard]] const file_range* file() const noexcept { return file_ ? &*file_ : nullptr; }
    /// Opens the stream. \pre this is a function that opens a stream
    [[nodiscard]] boost::asio::awaitable<byte_stream> open() const { return (*open_)(); }

private:
    layer_source() = default;

    std::optional<std::uint64_t> size_;
    std::optional<file_range> file_;
    std::shared_ptr<const opener> open_;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
