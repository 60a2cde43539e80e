#ifndef OVERMOUNT_EXPORTER_IMPL_DOCUMENTS_IPP
#define OVERMOUNT_EXPORTER_IMPL_DOCUMENTS_IPP

#include <overmount/exporter/documents.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/oci/reference.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace overmount::OVERMOUNT_ABI::detail {

// Functions on documents are templates on the JSON type, so that they are instantiated only where they are used. This type keeps
// the order of members.
using ordered_json = nlohmann::ordered_json;

inline constexpr const char* manifest_media_type = "application/vnd.oci.image.manifest.v1+json";

template <class Json>
Json describe(const std::string& media_type, const digest& id, std::uint64_t size)
{
    return {{"mediaType", media_type}, {"digest", id.string()}, {"size", size}};
}

OVERMOUNT_LAZY inline const char* layer_media_type(compression kind)
{
    return kind == compression::gzip   ? "application/vnd.oci.image.layer.v1.tar+gzip"
           : kind == compression::zstd ? "application/vnd.oci.image.layer.v1.tar+zstd"
                                       : "application/vnd.oci.image.layer.v1.tar";
}

OVERMOUNT_LAZY_BODY std::vector<offered_layer> distinct_layers(const std::vector<offered_image>& images)
{
    std::vector<offered_layer> out;
    std::set<diff_id> seen;
    for (const offered_image& image : images)
        for (const offered_layer& layer : image.layers)
            if (!image.kept && seen.insert(layer.diff).second)
                out.push_back(layer);
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<kept_blob> distinct_blobs(const std::vector<offered_image>& images)
{
    std::vector<kept_blob> out;
    std::set<digest> seen;
    for (const offered_image& image : images)
        if (image.kept)
            for (const kept_blob& blob : image.kept->blobs)
                if (seen.insert(blob.id).second)
                    out.push_back(blob);
    return out;
}

template <class Json>
std::string manifest_as(const offered_image& image, const blob_table& blobs)
{
    if (image.kept)
        return image.kept->bytes;
    Json out{{"schemaVersion", 2}, {"mediaType", manifest_media_type}};
    out["config"] =
        describe<Json>("application/vnd.oci.image.config.v1+json", image.config.id(), image.config.bytes().size());
    Json layers = Json::array();
    for (const offered_layer& layer : image.layers) {
        const written_blob& blob = blobs.at(layer.diff);
        layers.push_back(describe<Json>(layer_media_type(blob.kind), blob.id, blob.size));
    }
    out["layers"] = std::move(layers);
    return out.dump();
}

template <class Json>
std::string annotation(const Json& entry, const char* name)
{
    const auto found = entry.find("annotations");
    return found != entry.end() && found->is_object() && found->contains(name) && (*found)[name].is_string()
               ? (*found)[name].template get<std::string>()
               : std::string();
}

inline constexpr const char* ref_name_annotation = "org.opencontainers.image.ref.name";
inline constexpr const char* image_name_annotation = "io.containerd.image.name";

// Whether the new entry `later` replaces `entry`: they have the same name, or neither has a name and the digests are equal.
template <class Json>
bool replaces(const Json& later, const Json& entry)
{
    const auto text = [&](const char* name) { return std::pair(annotation(later, name), annotation(entry, name)); };
    const auto [image, old_image] = text(image_name_annotation);
    const auto [ref, old_ref] = text(ref_name_annotation);
    if (!image.empty() && !old_image.empty())
        return image == old_image;
    if (!ref.empty() || !old_ref.empty())
        return ref == old_ref;
    return image == old_image && later["digest"] == entry["digest"];
}

template <class Json>
std::string index_as(const std::vector<offered_image>& images, const std::vector<std::string>& manifests,
                     const std::string& old)
{
    Json out{{"schemaVersion", 2}, {"mediaType", "application/vnd.oci.image.index.v1+json"}};
    Json entries = Json::array();
    for (std::size_t i = 0; i < images.size(); ++i) {
        Json entry = describe<Json>(images[i].kept ? images[i].kept->media_type : manifest_media_type,
                                      digest::of(manifests[i]), manifests[i].size());
        if (const platform& on = images[i].config.platform(); !on.os().empty() && !on.architecture().empty()) {
            entry["platform"] = {{"architecture", on.architecture()}, {"os", on.os()}};
            if (!on.variant().empty())
                entry["platform"]["variant"] = on.variant();
        }
        if (images[i].names.empty())
            entries.push_back(entry);
        for (const offered_name& name : images[i].names) {
            Json named = entry;
            named["annotations"] = Json::object();
            if (!name.image_name.empty())
                named["annotations"][image_name_annotation] = name.image_name;
            named["annotations"][ref_name_annotation] = name.ref_name;
            entries.push_back(std::move(named));
        }
    }
    if (!old.empty()) {
        static_cast<void>(index::parse(old, limits())); // check that it is a valid index within limits
        out = Json::parse(old);
        Json kept = Json::array();
        for (Json& entry : out["manifests"])
            if (std::none_of(entries.begin(), entries.end(), [&](const auto& later) { return replaces(later, entry); }))
                kept.push_back(std::move(entry));
        for (Json& entry : entries)
            kept.push_back(std::move(entry));
        entries = std::move(kept);
    }
    out["manifests"] = std::move(entries);
    return out.dump();
}

// The name by which docker knows the image.
OVERMOUNT_LAZY inline reference docker_name(const offered_name& name)
{
    return reference::parse(name.image_name.empty() ? name.ref_name : name.image_name).with_default_tag();
}

template <class Json>
std::string docker_manifest_as(const std::vector<offered_image>& images, const blob_table& blobs)
{
    Json out = Json::array();
    for (const offered_image& image : images) {
        Json tags, layers = Json::array();
        for (const offered_name& name : image.names)
            if (const reference full = docker_name(name); full.tag())
                tags.push_back(full.string()); // the full name: podman would resolve a short name differently from docker
        for (const offered_layer& layer : image.layers)
            layers.push_back(layout_blob_path(blobs.at(layer.diff).id));
        out.push_back({{"Config", layout_blob_path(image.config.id())}, {"RepoTags", tags}, {"Layers", layers}});
    }
    return out.dump();
}

template <class Json>
std::string repositories_as(const std::vector<offered_image>& images, const blob_table& blobs)
{
    Json out = Json::object();
    for (const offered_image& image : images) {
        if (image.layers.empty())
            continue;
        const std::string top = blobs.at(image.layers.back().diff).id.hex();
        for (const offered_name& name : image.names) {
            const reference full = docker_name(name);
            if (!full.tag())
                continue;
            out[full.domain() + "/" + full.path()][*full.tag()] = top;
        }
    }
    return out.dump();
}

OVERMOUNT_LAZY_BODY std::string make_manifest(const offered_image& image, const blob_table& blobs)
{
    return manifest_as<ordered_json>(image, blobs);
}

OVERMOUNT_LAZY_BODY std::string make_index(const std::vector<offered_image>& images,
                                           const std::vector<std::string>& manifests, const std::string& old)
{
    return index_as<ordered_json>(images, manifests, old);
}

OVERMOUNT_LAZY_BODY std::string make_docker_manifest(const std::vector<offered_image>& images, const blob_table& blobs)
{
    return docker_manifest_as<ordered_json>(images, blobs);
}

OVERMOUNT_LAZY_BODY std::string make_repositories(const std::vector<offered_image>& images, const blob_table& blobs)
{
    return repositories_as<ordered_json>(images, blobs);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
