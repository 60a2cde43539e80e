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

namespace overmount::inline OVERMOUNT_ABI {

/// What an importer works with.
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

/// A layer as its source offers it.
struct found_layer
{
    diff_id diff;
    layer_source bytes;
    std::optional<digest> blob;          ///< of `bytes`, where the source tells
    std::optional<compression> promised; ///< by the media type, where it promises one
};

/// An image as its source offers it. Documents were checked against their digests.
struct found_image
{
    image_config config;
    std::vector<found_layer> layers; ///< lowest first, one for each diff ID of the config
    std::optional<std::string> manifest = {}; ///< verbatim, where the source has one
    std::optional<std::string> index = {};    ///< the outermost one that leads to the manifest, verbatim
    std::vector<std::string> tags = {};       ///< full names
    std::string source = {};                  ///< for people
};

/// Finds images in some source. A model is a copyable value, and no aggregate: GCC 12 destroys temporaries of such
/// twice in a co_await expression.
///
/// Guarantees: reads only documents; layers are read by the repository from their `layer_source`, and only those it lacks.
template <class Importer>
concept importer =
    std::copyable<Importer> && !std::is_aggregate_v<Importer> &&
    requires(const Importer& source, import_context context) {
        { source.discover(std::move(context)) } -> std::same_as<boost::asio::awaitable<std::vector<found_image>>>;
    };

} // namespace overmount::inline OVERMOUNT_ABI

#endif
