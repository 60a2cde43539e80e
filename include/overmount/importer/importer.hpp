#ifndef OVERMOUNT_IMPORTER_IMPORTER_HPP
#define OVERMOUNT_IMPORTER_IMPORTER_HPP

#include <overmount/importer/layer_source.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <concepts>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// The worker pool, limits and wanted platform that an importer works with.
class import_context
{
public:
    import_context(worker_pool pool, const limits& bounds, overmount::platform wanted)
        : pool_(std::move(pool)), bounds_(bounds), wanted_(std::move(wanted))
    {
    }
    [[nodiscard]] const worker_pool& pool() const noexcept { return pool_; }
    [[nodiscard]] const limits& bounds() const noexcept { return bounds_; }
    [[nodiscard]] const overmount::platform& wanted() const noexcept { return wanted_; }

private:
    worker_pool pool_;
    limits bounds_;
    overmount::platform wanted_;
};

/// A layer that an importer found.
struct found_layer
{
    diff_id diff;
    layer_source bytes;
    std::optional<digest> blob;          ///< digest of `bytes`, if the source states it
    std::optional<compression> promised; ///< compression that the media type promises, if any
};

/// An image that an importer found. Its documents are already verified against their digests.
struct found_image
{
    image_config config;
    std::vector<found_layer> layers; ///< lowest first, one for each diff ID of the config
    std::optional<std::string> manifest = {}; ///< verbatim, if the source has one
    std::optional<std::string> index = {};    ///< the outermost index that leads to the manifest, verbatim
    std::vector<std::string> tags = {};       ///< full names
    std::string source = {};                  ///< where the image comes from, for humans
};

/// Finds images in some source. A model is a copyable value and not an aggregate: GCC 12 destroys aggregate temporaries
/// twice in a co_await expression.
///
/// Guarantees: `discover` reads only documents. The repository reads the layers through their `layer_source`, and only those
/// that it lacks. The importer lives until `discover` has completed, so `discover` may be a coroutine that uses its members; a
/// `layer_source` must own whatever it needs.
template <class Importer>
concept importer =
    std::copyable<Importer> && !std::is_aggregate_v<Importer> &&
    requires(const Importer& source, import_context context) {
        { source.discover(std::move(context)) } -> std::same_as<boost::asio::awaitable<std::vector<found_image>>>;
    };

} // namespace overmount::OVERMOUNT_ABI

#endif
