#ifndef OVERMOUNT_OCI_IMPL_MANIFEST_IPP
#define OVERMOUNT_OCI_IMPL_MANIFEST_IPP

#include <overmount/oci/detail/json.hpp>
#include <overmount/oci/manifest.hpp>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

// Collects the members of a descriptor while it is read; `take` returns it and resets the parts for the next one.
struct descriptor_parts
{
    std::string media_type, os, architecture, variant, ref_name, image_name;
    std::optional<overmount::digest> id;
    std::optional<overmount::platform> platform;
    std::uint64_t size = 0;

    OVERMOUNT_LAZY [[nodiscard]] json_field field(json_field::action done)
    {
        return json_object(
            {{"mediaType", json_text(media_type)},
             {"digest", json_text([this](const std::string& text) { id = digest::parse(text); }).required()},
             {"size", json_number(size).required()},
             {"platform", json_object({{"os", json_text(os)},
                                       {"architecture", json_text(architecture)},
                                       {"variant", json_text(variant)}},
                                      [this] { platform.emplace(os, architecture, variant); })},
             {"annotations", json_map({{"org.opencontainers.image.ref.name", json_text(ref_name)},
                                       {"io.containerd.image.name", json_text(image_name)}})}},
            std::move(done));
    }
    OVERMOUNT_LAZY [[nodiscard]] descriptor take()
    {
        descriptor out(std::move(media_type), *id, size);
        if (platform)
            out.set_platform(std::move(*platform));
        out.set_names(std::move(ref_name), std::move(image_name));
        *this = {};
        return out;
    }
};

// The compression that the media type of a layer promises; nullopt for docker's types, which are not reliable.
OVERMOUNT_LAZY inline std::optional<compression> compression_of_media_type(std::string_view type)
{
    for (const std::string_view start : {"application/vnd.oci.image.layer.v1.tar",
                                         "application/vnd.oci.image.layer.nondistributable.v1.tar"}) {
        if (type == start)
            return compression::none;
        if (type.starts_with(start) && type.substr(start.size()) == "+gzip")
            return compression::gzip;
        if (type.starts_with(start) && type.substr(start.size()) == "+zstd")
            return compression::zstd;
    }
    // Docker's types promise gzip, but tools use them for layers of any compression.
    for (const std::string_view start : {"application/vnd.docker.image.rootfs.diff.tar",
                                         "application/vnd.docker.image.rootfs.foreign.diff.tar"})
        if (type == start || (type.starts_with(start) &&
                              (type.substr(start.size()) == ".gzip" || type.substr(start.size()) == ".zstd")))
            return std::nullopt;
    throw error(errc::unsupported_media_type).subject(type).detail("this is not the media type of a layer");
}

} // namespace detail

OVERMOUNT_LAZY_BODY bool is_index_media_type(std::string_view type) noexcept
{
    return type == "application/vnd.oci.image.index.v1+json" ||
           type == "application/vnd.docker.distribution.manifest.list.v2+json";
}

OVERMOUNT_LAZY_BODY bool is_manifest_media_type(std::string_view type) noexcept
{
    return type == "application/vnd.oci.image.manifest.v1+json" ||
           type == "application/vnd.docker.distribution.manifest.v2+json";
}

OVERMOUNT_LAZY_BODY manifest manifest::parse(std::string bytes, const limits& bounds)
{
    std::optional<descriptor> config;
    std::vector<layer_descriptor> layers;
    detail::descriptor_parts parts, layer;
    const auto version = [](std::uint64_t value) {
        if (value != 2)
            throw error(errc::unsupported_media_type).detail("only schema version 2 is supported, not docker's schema 1");
    };
    std::string own_type;
    const auto type = [&own_type](const std::string& value) {
        if (!value.empty() && !is_manifest_media_type(value))
            throw error(errc::unsupported_media_type).subject(value).detail("this is not the media type of a manifest");
        own_type = value;
    };
    const auto take_config = [&] {
        config = parts.take();
        const std::string& value = config->media_type();
        if (value != "application/vnd.oci.image.config.v1+json" &&
            value != "application/vnd.docker.container.image.v1+json" && !value.empty())
            throw error(errc::unsupported_media_type).subject(value).detail("this is not the media type of a config");
    };
    const auto take_layer = [&](descriptor blob) {
        const auto promised = detail::compression_of_media_type(blob.media_type());
        layers.push_back({std::move(blob), promised});
    };
    using detail::json_object;
    detail::read_json(
        bytes, bounds, errc::invalid_manifest,
        json_object(
            {{"schemaVersion", detail::json_number(version).required()},
             {"mediaType", detail::json_text(type)},
             {"config", parts.field(take_config).required()},
             {"layers",
              detail::json_list(layer.field([&] { take_layer(layer.take()); }), bounds.layers).required()},
             // Refuse documents that one reader takes for an index and another for a manifest (CVE-2021-41190).
             {"manifests", detail::json_refused("a manifest must not have the fields of an index")}}));
    manifest out(std::move(bytes), std::move(*config));
    if (own_type.empty())
        own_type = out.config_.media_type().starts_with("application/vnd.docker.")
                       ? "application/vnd.docker.distribution.manifest.v2+json"
                       : "application/vnd.oci.image.manifest.v1+json";
    out.media_type_ = std::move(own_type);
    out.layers_ = std::move(layers);
    return out;
}

OVERMOUNT_LAZY_BODY index index::parse(std::string bytes, const limits& bounds)
{
    index out;
    detail::descriptor_parts entry;
    const auto version = [](std::uint64_t value) {
        if (value != 2)
            throw error(errc::invalid_index).subject(std::to_string(value)).detail("the schema version of an index must be 2");
    };
    const auto type = [](const std::string& value) {
        if (!value.empty() && !is_index_media_type(value))
            throw error(errc::unsupported_media_type).subject(value).detail("this is not the media type of an index");
    };
    constexpr const char* both = "an index must not have the fields of a manifest";
    detail::read_json(bytes, bounds, errc::invalid_index,
                      detail::json_object({{"schemaVersion", detail::json_number(version).required()},
                                           {"mediaType", detail::json_text(type)},
                                           {"manifests", detail::json_list(entry.field([&] {
                                                             out.entries_.push_back(entry.take());
                                                         })).required()},
                                           {"config", detail::json_refused(both)},
                                           {"layers", detail::json_refused(both)}}));
    out.bytes_ = std::move(bytes);
    return out;
}

OVERMOUNT_LAZY_BODY const descriptor& index::select_from(const std::vector<descriptor>& entries,
                                                         const platform& wanted)
{
    const descriptor* best = nullptr;
    unsigned best_fit = 0;
    std::string offered;
    for (const descriptor& entry : entries) {
        // The platform of buildkit's attestations is unknown/unknown, which fits none.
        const unsigned fit = entry.platform() ? 2 * wanted.fit(*entry.platform()) : 1;
        if (fit > best_fit) {
            best = &entry;
            best_fit = fit;
        }
        if (entry.platform())
            offered += (offered.empty() ? "" : ", ") + entry.platform()->string();
    }
    if (best == nullptr)
        throw error(errc::no_matching_platform)
            .at(stage::manifest)
            .subject(wanted.string())
            .detail("the platforms in the index are: " + (offered.empty() ? "none" : escape(offered)));
    return *best;
}

OVERMOUNT_LAZY_BODY std::vector<docker_archive_image> parse_docker_archive_manifest(std::string_view bytes,
                                                                                    const limits& bounds)
{
    std::vector<docker_archive_image> out;
    docker_archive_image image;
    const auto take_layer = [&](std::string path) { image.layers.push_back(std::move(path)); };
    detail::read_json(
        bytes, bounds, errc::invalid_manifest,
        detail::json_list(detail::json_object(
            {{"Config", detail::json_text(image.config).required()},
             {"RepoTags", detail::json_texts(image.tags)},
             {"Layers", detail::json_list(detail::json_text(take_layer), bounds.layers).required_or_null()}},
            [&] { out.push_back(std::exchange(image, {})); })));
    return out;
}

} // namespace overmount::OVERMOUNT_ABI

#endif
