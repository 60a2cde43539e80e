#ifndef OVERMOUNT_IMPL_MANIFEST_IPP
#define OVERMOUNT_IMPL_MANIFEST_IPP

#include <overmount/detail/json.hpp>
#include <overmount/manifest.hpp>

namespace overmount::inline OVERMOUNT_ABI {
namespace detail {

inline std::string string_or_empty(const nlohmann::json& object, const char* key)
{
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? std::string() : found->get<std::string>();
}

inline descriptor read_descriptor(const nlohmann::json& value)
{
    const auto& size = value.at("size");
    if (!size.is_number_unsigned())
        throw error(errc::invalid_manifest).at(stage::manifest).detail("a size is not a number");
    descriptor out(string_or_empty(value, "mediaType"), digest::parse(value.at("digest").get<std::string>()),
                   size.get<std::uint64_t>());
    if (const auto found = value.find("platform"); found != value.end() && found->is_object())
        out.set_platform({string_or_empty(*found, "os"), string_or_empty(*found, "architecture"),
                          string_or_empty(*found, "variant")});
    if (const auto found = value.find("annotations"); found != value.end() && found->is_object())
        out.set_names(string_or_empty(*found, "org.opencontainers.image.ref.name"),
                      string_or_empty(*found, "io.containerd.image.name"));
    return out;
}

// What a media type of a layer promises of its bytes.
inline std::optional<compression> promised_by(std::string_view type)
{
    for (const std::string_view start :
         {"application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar"}) {
        if (type == start)
            return compression::none;
        if (type.starts_with(start) && type.substr(start.size()) == "+gzip")
            return compression::gzip;
        if (type.starts_with(start) && type.substr(start.size()) == "+zstd")
            return compression::zstd;
    }
    // Docker's types promise gzip and are given to everything.
    for (const std::string_view start : {"application/vnd.docker.image.rootfs.diff.tar",
                                         "application/vnd.docker.image.rootfs.foreign.diff.tar"})
        if (type == start || (type.starts_with(start) && (type.substr(start.size()) == ".gzip" ||
                                                          type.substr(start.size()) == ".zstd")))
            return std::nullopt;
    throw error(errc::unsupported_media_type).at(stage::manifest).subject(type).detail("of a layer");
}

} // namespace detail

OVERMOUNT_DECL bool is_index_media_type(std::string_view type) noexcept
{
    return type == "application/vnd.oci.image.index.v1+json" ||
           type == "application/vnd.docker.distribution.manifest.list.v2+json";
}

OVERMOUNT_DECL manifest manifest::parse(std::string bytes, const limits& bounds)
{
    return detail::read_json(bytes, bounds, errc::invalid_manifest, [&](const nlohmann::json& value) {
        const auto fail = [](errc code, std::string_view words) {
            return error(code).at(stage::manifest).detail(words);
        };
        if (value.at("schemaVersion") != 2)
            throw fail(errc::unsupported_media_type, "docker's schema 1 manifests are not supported");
        const std::string type = detail::string_or_empty(value, "mediaType");
        if (!type.empty() && type != "application/vnd.oci.image.manifest.v1+json" &&
            type != "application/vnd.docker.distribution.manifest.v2+json")
            throw error(errc::unsupported_media_type).at(stage::manifest).subject(type).detail("of a manifest");
        if (value.contains("manifests"))
            throw fail(errc::invalid_manifest, "it is an index as well");
        manifest out(bytes, detail::read_descriptor(value.at("config")));
        const std::string& config = out.config_.media_type();
        if (config != "application/vnd.oci.image.config.v1+json" &&
            config != "application/vnd.docker.container.image.v1+json" && !config.empty())
            throw error(errc::unsupported_media_type).at(stage::manifest).subject(config).detail("of a config");
        const auto& layers = value.at("layers");
        if (!layers.is_array() || layers.size() > bounds.layers)
            throw fail(errc::invalid_manifest, "its layers are not a list, or too many");
        for (const auto& layer : layers) {
            descriptor blob = detail::read_descriptor(layer);
            const auto promised = detail::promised_by(blob.media_type());
            out.layers_.push_back({std::move(blob), promised});
        }
        return out;
    });
}

OVERMOUNT_DECL index index::parse(std::string bytes, const limits& bounds)
{
    return detail::read_json(bytes, bounds, errc::invalid_index, [&](const nlohmann::json& value) {
        // What is an index for one reader must not be a manifest for the next (CVE-2021-41190).
        if (value.contains("layers") || value.contains("config") || value.at("schemaVersion") != 2)
            throw error(errc::invalid_index).at(stage::manifest);
        const std::string type = detail::string_or_empty(value, "mediaType");
        if (!type.empty() && !is_index_media_type(type))
            throw error(errc::unsupported_media_type).at(stage::manifest).subject(type).detail("of an index");
        index out;
        out.bytes_ = bytes;
        for (const auto& entry : detail::list_at(value, "manifests", errc::invalid_index))
            out.entries_.push_back(detail::read_descriptor(entry));
        return out;
    });
}

OVERMOUNT_DECL const descriptor& index::select_from(const std::vector<descriptor>& entries,
                                                     const platform& wanted)
{
    const descriptor* best = nullptr;
    unsigned best_fit = 0;
    std::string offered;
    for (const descriptor& entry : entries) {
        // Attestations of buildkit say unknown/unknown.
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
            .detail("there is: " + (offered.empty() ? "nothing" : escape(offered)));
    return *best;
}

OVERMOUNT_DECL std::vector<docker_archive_image> parse_docker_archive_manifest(std::string_view bytes,
                                                                               const limits& bounds)
{
    return detail::read_json(bytes, bounds, errc::invalid_manifest, [&](const nlohmann::json& value) {
        std::vector<docker_archive_image> out;
        if (!value.is_array())
            throw error(errc::invalid_manifest).at(stage::manifest).detail("not a list");
        for (const auto& item : value) {
            docker_archive_image image;
            image.config = item.at("Config").get<std::string>();
            if (const auto tags = item.find("RepoTags"); tags != item.end() && tags->is_array())
                for (const auto& tag : *tags)
                    image.tags.push_back(tag.get<std::string>());
            for (const auto& layer : detail::list_at(item, "Layers", errc::invalid_manifest))
                image.layers.push_back(layer.get<std::string>());
            if (image.layers.size() > bounds.layers)
                throw error(errc::invalid_manifest).at(stage::manifest).detail("too many layers");
            out.push_back(std::move(image));
        }
        return out;
    });
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
