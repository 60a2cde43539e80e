#ifndef OVERMOUNT_IMPORTER_IMPL_DOCKER_ARCHIVE_IPP
#define OVERMOUNT_IMPORTER_IMPL_DOCKER_ARCHIVE_IPP

#include <overmount/importer/discover.hpp>
#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/image_files.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>

#include <algorithm>
#include <memory>
#include <set>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

OVERMOUNT_LAZY inline std::string full_name(const std::string& tag)
{
    return reference::parse(tag).with_default_tag().string();
}

// The OCI manifests in an archive of the new format, which is an OCI layout as well. Manifests that its indexes name may be
// missing: docker saves only the platforms that it has.
class layout_manifests
{
public:
    OVERMOUNT_LAZY explicit layout_manifests(image_files& files, const limits& bounds) : files_(files), bounds_(bounds)
    {
        if (!files.find("index.json"))
            return;
        std::string text = files.document("index.json");
        const index top = in_document("index.json", [&] { return index::parse(std::move(text), bounds); });
        for (const descriptor& entry : top.entries())
            collect(entry, nullptr, 1);
    }

    // Adds the manifest with the same config and layers to an image, and the index that leads to it.
    OVERMOUNT_LAZY void complete(found_image& image) const
    {
        const auto fits = [&image](const found& candidate) {
            return candidate.value.config().digest() == image.config.id() &&
                   std::equal(candidate.value.layers().begin(), candidate.value.layers().end(), image.layers.begin(),
                              image.layers.end(), [](const layer_descriptor& named, const found_layer& layer) {
                                  return layer.blob == named.blob.digest();
                              });
        };
        const auto candidate = std::find_if(manifests_.begin(), manifests_.end(), fits);
        if (candidate == manifests_.end())
            return;
        image.manifest = candidate->value.bytes();
        if (candidate->outermost)
            image.index = *candidate->outermost;
        for (std::size_t i = 0; i < image.layers.size(); ++i)
            image.layers[i].promised = candidate->value.layers()[i].promised;
    }

private:
    struct found
    {
        manifest value;
        std::shared_ptr<const std::string> outermost; // index
    };

    OVERMOUNT_LAZY void collect(const descriptor& what, std::shared_ptr<const std::string> outermost, unsigned depth)
    {
        const std::string path = layout_blob_path(what.digest());
        const bool is_index = is_index_media_type(what.media_type());
        if (!(is_index || is_manifest_media_type(what.media_type())) || !files_.find(path) ||
            !seen_.insert(what.digest()).second)
            return;
        std::string text = files_.document(what);
        in_document(path, [&] {
            if (!is_index)
                return collect_manifest(std::move(text), std::move(outermost));
            if (depth == bounds_.index_depth)
                throw error(errc::invalid_index).at(stage::manifest).detail("indexes are nested too deeply");
            const index value = index::parse(std::move(text), bounds_);
            if (!outermost)
                outermost = new_shared<const std::string>(value.bytes());
            for (const descriptor& entry : value.entries())
                collect(entry, outermost, depth + 1);
        });
    }

    OVERMOUNT_LAZY void collect_manifest(std::string text, std::shared_ptr<const std::string> outermost)
    {
        try {
            manifests_.push_back({manifest::parse(std::move(text), bounds_), std::move(outermost)});
        } catch (const error& failure) {
            // Attestations and other artifacts are not images.
            if (failure.code() != errc::unsupported_media_type)
                throw;
        }
    }

    image_files& files_;
    const limits& bounds_;
    std::set<digest> seen_;
    std::vector<found> manifests_;
};

OVERMOUNT_LAZY inline found_image read_docker_image(image_files& files, const docker_archive_image& image,
                                                    const limits& bounds)
{
    std::string text = files.document(image.config);
    const std::string config = resolve_link({}, image.config);
    if (const auto named = digest_of_name(config); named && digest::of(text, named->algorithm()) != *named)
        throw error(errc::digest_mismatch).at(stage::manifest).subject(config);
    found_image out{in_document(config, [&] { return image_config::parse(std::move(text), bounds); }), {}};
    const std::vector<diff_id>& diffs = out.config.diff_ids();
    if (diffs.size() != image.layers.size())
        throw error(errc::invalid_config)
            .at(stage::manifest)
            .entry(config)
            .detail("the manifest and the config have different numbers of layers");
    for (std::size_t i = 0; i < diffs.size(); ++i) {
        const std::string path = resolve_link({}, image.layers[i]);
        out.layers.push_back({diffs[i], files.layer(path, diffs[i]),
                              path.starts_with("blobs/") ? digest_of_name(path) : std::nullopt,
                              std::nullopt});
    }
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<found_image> discover_docker_archive(image_files& files, const std::string& path,
                                                                     const std::string& wanted,
                                                                     const import_context& context, const stop_flag& stop)
{
    const limits& bounds = context.bounds();
    if (!files.find("manifest.json"))
        throw error(errc::unknown_archive_format)
            .at(stage::source)
            .subject(path)
            .detail("it has no manifest.json");
    const std::string text = files.document("manifest.json");
    const auto images =
        in_document("manifest.json", [&] { return parse_docker_archive_manifest(text, bounds); });
    const layout_manifests manifests(files, bounds);
    const std::string name = wanted.empty() ? wanted : full_name(wanted);
    std::vector<found_image> out;
    std::string names;
    for (const docker_archive_image& image : images) {
        stop.throw_if_stopped();
        std::vector<std::string> tags;
        for (const std::string& tag : image.tags) {
            tags.push_back(in_document("manifest.json", [&] { return full_name(tag); }));
            names += (names.empty() ? "" : ", ") + tags.back();
        }
        if (!name.empty() && std::find(tags.begin(), tags.end(), name) == tags.end())
            continue;
        out.push_back(read_docker_image(files, image, bounds));
        manifests.complete(out.back());
        out.back().tags = std::move(tags);
        out.back().source = path;
    }
    if (out.empty())
        throw error(errc::missing_image)
            .at(stage::manifest)
            .subject(wanted)
            .detail("the tags in the archive are: " + (names.empty() ? "none" : names));
    return out;
}

OVERMOUNT_LAZY inline boost::asio::awaitable<std::vector<found_image>>
discover_docker_on_worker(std::string path, std::string name, import_context context)
{
    auto work = [path, name, context](const stop_flag& stop) {
        image_files files(path, context.bounds());
        return discover_docker_archive(files, path, name, context, stop);
    };
    co_return co_await run_on(context.pool(), std::move(work));
}

} // namespace detail

OVERMOUNT_LAZY_BODY boost::asio::awaitable<std::vector<found_image>>
docker_archive::discover(import_context context) const
{
    return detail::discover_docker_on_worker(path_, name_, std::move(context));
}

} // namespace overmount::OVERMOUNT_ABI

#endif
