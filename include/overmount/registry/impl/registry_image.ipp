#ifndef OVERMOUNT_REGISTRY_IMPL_REGISTRY_IMAGE_IPP
#define OVERMOUNT_REGISTRY_IMPL_REGISTRY_IMAGE_IPP

#include <overmount/registry/client.hpp>
#include <overmount/registry/document.hpp>
#include <overmount/registry/registry_image.hpp>
#include <overmount/registry/settings/host_settings.hpp>
#include <overmount/registry/short_name.hpp>
#include <overmount/runtime/operation.hpp>
#include <overmount/runtime/run_on.hpp>

namespace overmount::OVERMOUNT_ABI {
namespace registry::detail {

// What is asked for: a digest, or else the tag.
inline std::string name_in_registry(const reference& image)
{
    return image.digest() ? image.digest()->string() : image.tag().value_or("latest");
}

inline boost::asio::awaitable<std::vector<found_image>> discover_image(reference image, registry_options options, import_context context)
{
    const client from = co_await client::open(context.pool(), image, options, context.bounds());
    fetched_document found = co_await from.manifest(name_in_registry(image));
    std::optional<std::string> outermost;
    for (unsigned depth = 0; classify(found.content_type(), found.bytes(), context.bounds()) == document_kind::index; ++depth) {
        if (depth == context.bounds().index_depth)
            throw error(errc::invalid_index).at(stage::manifest).detail("indexes are nested too deeply");
        if (!outermost)
            outermost = found.bytes();
        const descriptor chosen = index::parse(std::move(found.bytes()), context.bounds()).select(context.wanted());
        found = co_await from.manifest(chosen.digest().string(), chosen.size());
    }
    const overmount::manifest described = manifest::parse(std::move(found.bytes()), context.bounds());
    std::string config = co_await from.document(described.config());
    found_image out{image_config::parse(std::move(config), context.bounds()), {}};
    const std::vector<diff_id>& diffs = out.config.diff_ids();
    if (diffs.size() != described.layers().size())
        throw error(errc::invalid_config).at(stage::manifest).detail("the manifest and the config have different numbers of layers");
    for (std::size_t i = 0; i < diffs.size(); ++i) {
        const descriptor& blob = described.layers()[i].blob;
        auto open = [from, blob] { return from.blob(blob); };
        out.layers.push_back({diffs[i], layer_source(std::move(open), blob.size()), blob.digest(), described.layers()[i].promised});
    }
    out.manifest = described.bytes();
    out.index = std::move(outermost);
    if (!image.digest())
        out.tags.push_back(image.string());
    out.source = "docker://" + image.string();
    std::vector<found_image> all;
    all.push_back(std::move(out));
    co_return all;
}

inline boost::asio::awaitable<std::vector<reference>> find_references(std::string name, registry_options options, worker_pool workers)
{
    if (reference::states_domain(name) || !options.settings_of_user())
        co_return std::vector<reference>{reference::parse(name)};
    auto look = [name](const overmount::detail::stop_flag&) {
        host_settings_paths paths;
        paths.registries = registries_conf_paths(process_environment());
        return registry::references_for(name, host_settings::load(paths).registries());
    };
    co_return co_await overmount::detail::run_on(workers, std::move(look));
}

inline boost::asio::awaitable<std::optional<digest>> digest_of_image(reference image, registry_options options, worker_pool workers)
{
    const client from = co_await client::open(std::move(workers), image, options, limits());
    co_return co_await from.digest_of(name_in_registry(image));
}

inline boost::asio::awaitable<std::string> manifest_of_image(reference image, registry_options options, worker_pool workers)
{
    const client from = co_await client::open(std::move(workers), image, options, limits());
    fetched_document found = co_await from.manifest(name_in_registry(image));
    co_return std::move(found.bytes());
}

inline boost::asio::awaitable<std::vector<std::string>> tags_of_image(reference image, registry_options options, worker_pool workers)
{
    const client from = co_await client::open(std::move(workers), image, options, limits());
    co_return co_await from.tags();
}

} // namespace registry::detail

OVERMOUNT_DECL boost::asio::awaitable<std::vector<found_image>> registry_image::discover(import_context context) const
{
    return overmount::detail::operation(registry::detail::discover_image(image_, options_, std::move(context)));
}

OVERMOUNT_DECL boost::asio::awaitable<std::vector<reference>>
registry_image::references_for(std::string name, registry_options options, worker_pool workers)
{
    return overmount::detail::operation(registry::detail::find_references(std::move(name), std::move(options), std::move(workers)));
}

OVERMOUNT_DECL boost::asio::awaitable<std::optional<digest>> registry_image::current_digest(worker_pool workers) const
{
    return overmount::detail::operation(registry::detail::digest_of_image(image_, options_, std::move(workers)));
}

OVERMOUNT_DECL boost::asio::awaitable<std::string> registry_image::manifest(worker_pool workers) const
{
    return overmount::detail::operation(registry::detail::manifest_of_image(image_, options_, std::move(workers)));
}

OVERMOUNT_DECL boost::asio::awaitable<std::vector<std::string>> registry_image::tags(worker_pool workers) const
{
    return overmount::detail::operation(registry::detail::tags_of_image(image_, options_, std::move(workers)));
}

} // namespace overmount::OVERMOUNT_ABI

#endif
