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

namespace overmount::inline OVERMOUNT_ABI {

/// Gives the bytes of a layer's tar; blocks, on a worker.
class layer_reader
{
public:
    layer_reader() = default;
    layer_reader(const layer_reader&) = delete;
    layer_reader& operator=(const layer_reader&) = delete;
    virtual ~layer_reader() = default;
    /// At least one byte; 0 at the end.
    virtual std::size_t read(std::span<std::byte> into) = 0;
};

/// A layer as a repository offers it.
struct offered_layer
{
    diff_id diff;
    std::uint64_t size;                                   ///< of the tar, in bytes
    std::function<std::unique_ptr<layer_reader>()> open; ///< its bytes from the beginning; called on a worker
};

/// A blob as it came.
struct kept_blob
{
    digest id;
    std::uint64_t size;                                   ///< bytes
    std::function<std::unique_ptr<layer_reader>()> open; ///< its bytes from the beginning; called on a worker
};

/// The manifest of an image as it came, and its layers' blobs.
struct kept_manifest
{
    std::string bytes;
    std::string media_type;
    std::vector<kept_blob> blobs; ///< lowest first, one for each diff ID of the config
};

/// A name that an image is to have where it goes.
struct offered_name
{
    std::string ref_name;   ///< of OCI's annotation: any text, mostly a tag such as `1.36`
    std::string image_name; ///< in full, such as `docker.io/library/busybox:1.36`; empty where it has none
};

/// An image as a repository offers it.
struct offered_image
{
    image_config config;
    std::vector<offered_layer> layers; ///< lowest first, one for each diff ID of the config
    std::vector<offered_name> names = {};
    std::optional<kept_manifest> kept = {}; ///< what an exporter may write instead of the layers, byte for byte
};

/// What an exporter works with.
class export_context
{
public:
    /// \param scratch a directory for unnamed files, where the exporter has no better one
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

/// Writes images to some place. A model is a copyable value, and no aggregate (see `importer`).
///
/// Guarantees: configs arrive byte for byte, layers with their diff IDs, which are checked against the bytes as they
/// are read; a diff that several images share arrives once. The same images give the same bytes. What fails or is
/// cancelled leaves nothing new where it would have gone; bytes that went down a stream are the exception.
template <class Exporter>
concept exporter =
    std::copyable<Exporter> && !std::is_aggregate_v<Exporter> &&
    requires(const Exporter& target, std::vector<offered_image> images, export_context context) {
        { target.write(std::move(images), std::move(context)) } -> std::same_as<boost::asio::awaitable<void>>;
    };

} // namespace overmount::inline OVERMOUNT_ABI

#endif
