#ifndef OVERMOUNT_EXPORTER_EXPORTER_HPP
#define OVERMOUNT_EXPORTER_EXPORTER_HPP

#include <overmount/codec/layer_encoding.hpp>
#include <overmount/core/compression.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/runtime/worker_pool.hpp>
#include <overmount/core/durability.hpp>

#include <boost/asio/awaitable.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// Reads the bytes of a layer or blob; blocks, and is called on a worker thread.
class layer_reader
{
public:
    layer_reader() = default;
    layer_reader(const layer_reader&) = delete;
    layer_reader& operator=(const layer_reader&) = delete;
    virtual ~layer_reader() = default;
    /// Reads at least one byte and returns the number of bytes; 0 at the end.
    virtual std::size_t read(std::span<std::byte> into) = 0;
};

/// A layer that a repository offers to an exporter.
struct offered_layer
{
    diff_id diff;
    std::uint64_t size;                                   ///< size of the tar in bytes
    std::function<std::unique_ptr<layer_reader>()> open; ///< its bytes from the beginning; called on a worker
};

/// A blob that was kept byte for byte when its layer was imported.
struct kept_blob
{
    digest id;
    std::uint64_t size;                                   ///< bytes
    std::function<std::unique_ptr<layer_reader>()> open; ///< its bytes from the beginning; called on a worker
};

/// The original manifest of an image, and the kept blobs of its layers.
struct kept_manifest
{
    std::string bytes;
    std::string media_type;
    std::vector<kept_blob> blobs; ///< lowest first, one for each diff ID of the config
};

/// A name for an image in the target.
struct offered_name
{
    std::string ref_name;   ///< value of OCI's annotation: any text, usually a tag such as `1.36`
    std::string image_name; ///< full name, such as `docker.io/library/busybox:1.36`; may be empty
};

/// An image that a repository offers to an exporter.
struct offered_image
{
    image_config config;
    std::vector<offered_layer> layers; ///< lowest first, one for each diff ID of the config
    std::vector<offered_name> names = {};
    std::optional<kept_manifest> kept = {}; ///< an exporter may write this instead of the layers, byte for byte
};

/// The worker pool and settings that an exporter works with.
class export_context
{
public:
    /// \param scratch a directory for unnamed files, for exporters without a directory of their own
    export_context(worker_pool pool, const layer_encoding& encoding, durability sync,
                   std::shared_ptr<const unique_fd> scratch)
        : pool_(std::move(pool)), encoding_(encoding), sync_(sync), scratch_(std::move(scratch))
    {
    }
    [[nodiscard]] const worker_pool& pool() const noexcept { return pool_; }
    [[nodiscard]] const layer_encoding& encoding() const noexcept { return encoding_; }
    [[nodiscard]] durability sync() const noexcept { return sync_; }
    [[nodiscard]] const std::shared_ptr<const unique_fd>& scratch() const noexcept { return scratch_; }

private:
    worker_pool pool_;
    layer_encoding encoding_;
    durability sync_;
    std::shared_ptr<const unique_fd> scratch_;
};

/// Writes images to some target. A model is a copyable value and not an aggregate (see `importer`).
///
/// Guarantees: configs are written byte for byte. Layers keep their diff IDs, which are verified while the bytes are read; a
/// diff that several images share is written once. The same images give the same bytes. An export that fails or is cancelled
/// leaves nothing new in the target, except for bytes already written to a stream.
template <class Exporter>
concept exporter =
    std::copyable<Exporter> && !std::is_aggregate_v<Exporter> &&
    requires(const Exporter& target, std::vector<offered_image> images, export_context context) {
        { target.write(std::move(images), std::move(context)) } -> std::same_as<boost::asio::awaitable<void>>;
    };

} // namespace overmount::OVERMOUNT_ABI

#endif
