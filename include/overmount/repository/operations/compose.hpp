#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COMPOSE_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COMPOSE_HPP

#include <overmount/oci/image_config_edit.hpp>
#include <overmount/repository/operations/show_image.hpp>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// The config with the layers of a chain, lowest first.
OVERMOUNT_LAZY [[nodiscard]] inline image_config with_layers(const image_config& config, const std::vector<diff_id>& chain,
                                                             const limits& bounds)
{
    const auto fail = [](std::string_view why) {
        return error(errc::image_cannot_be_composed).at(stage::repository).detail(why);
    };
    if (config.diff_ids() == chain)
        return config;
    if (!config.diff_ids().empty())
        throw fail("the config names other layers than the chain has");
    try {
        return image_config_edit(config).replace_layers(chain).build(bounds);
    } catch (const error& failure) {
        throw fail(failure.what());
    }
}

// Makes an image of a config and of layers that are there. On a worker.
template <storage_policy Storage>
[[nodiscard]] image_config compose_image(repository_state<Storage>& repository, const image_config& config,
                                         const std::optional<chain_id>& top, const import_options& options)
{
    store& records = *repository.records;
    std::vector<diff_id> layers = config.diff_ids();
    if (top) {
        layers.clear();
        for (layer_record& layer : records.chain(*top))
            layers.push_back(std::move(layer.diff));
        std::reverse(layers.begin(), layers.end());
    }
    found_image made{with_layers(config, layers, repository.bounds), {}};

    std::string name;
    std::optional<file_lock> lease;
    {
        const file_lock guard = records.lock_shared();
        lease = records.lease(layers, name);
    }
    try {
        for (const diff_id& layer : layers)
            if (!repository.storage.contains(layer))
                throw error(errc::layer_not_found).at(stage::repository).layer(layer.string());
        show_image(repository, made, options);
    } catch (...) {
        records.end_lease(name);
        throw;
    }
    records.end_lease(name);
    return std::move(made.config);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
