#ifndef OVERMOUNT_IMPL_DOCKER_ARCHIVE_IPP
#define OVERMOUNT_IMPL_DOCKER_ARCHIVE_IPP

#include <overmount/detail/run_on.hpp>
#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/image_files.hpp>
#include <overmount/reference.hpp>

#include <algorithm>

namespace overmount::inline OVERMOUNT_ABI {
namespace detail {

// A file that is named by its digest: `blobs/sha256/<hex>`, or `<hex>.json` of a config.
inline std::optional<digest> digest_of_name(std::string_view path)
{
    if (path.ends_with(".json"))
        path.remove_suffix(5);
    const auto slash = path.rfind('/');
    if (slash == std::string_view::npos)
        return digest::try_parse("sha256:" + std::string(path));
    if (!path.starts_with("blobs/"))
        return std::nullopt;
    return digest::try_parse(std::string(path.substr(6, slash - 6)) + ":" + std::string(path.substr(slash + 1)));
}

inline std::string full_name(const std::string& tag)
{
    return reference::parse(tag).with_default_tag().string();
}

inline found_image read_docker_image(const image_files& files, const docker_archive_image& image,
                                     const limits& bounds)
{
    std::string text = files.document(image.config, bounds);
    if (const auto named = digest_of_name(image.config); named && digest::of(text, named->algorithm()) != *named)
        throw error(errc::digest_mismatch).at(stage::manifest).subject(image.config);
    found_image out{image_config::parse(std::move(text), bounds), {}, {}, {}, {}};
    if (out.config.diff_ids().size() != image.layers.size())
        throw error(errc::invalid_config)
            .at(stage::manifest)
            .detail("the manifest and the config name different numbers of layers");
    for (std::size_t i = 0; i < image.layers.size(); ++i)
        out.layers.push_back({out.config.diff_ids()[i], files.get(image.layers[i]),
                              image.layers[i].starts_with("blobs/") ? digest_of_name(image.layers[i]) : std::nullopt,
                              std::nullopt});
    for (const std::string& tag : image.tags)
        out.tags.push_back(full_name(tag));
    return out;
}

inline std::vector<found_image> discover_docker_archive(const std::string& path, const std::string& wanted,
                                                        const import_context& context, const stop_flag& stop)
{
    const image_files files = image_files::of_archive(path, context.bounds());
    if (!files.find("manifest.json"))
        throw error(errc::unknown_archive_format).at(stage::source).subject(path).detail("it has no manifest.json");
    const auto images =
        parse_docker_archive_manifest(files.document("manifest.json", context.bounds()), context.bounds());
    const std::string name = wanted.empty() ? wanted : full_name(wanted);
    std::vector<found_image> out;
    std::string names;
    for (const docker_archive_image& image : images) {
        stop.throw_if_stopped();
        found_image found = read_docker_image(files, image, context.bounds());
        found.source = path;
        for (const std::string& tag : found.tags)
            names += (names.empty() ? "" : ", ") + tag;
        if (name.empty() || std::ranges::find(found.tags, name) != found.tags.end())
            out.push_back(std::move(found));
    }
    if (out.empty())
        throw error(errc::missing_image)
            .at(stage::manifest)
            .subject(wanted)
            .detail("there is: " + (names.empty() ? "no tag" : names));
    return out;
}

inline boost::asio::awaitable<std::vector<found_image>> discover_docker_on_worker(std::string path, std::string name,
                                                                                  import_context context)
{
    auto work = [path, name, context](const stop_flag& stop) {
        return discover_docker_archive(path, name, context, stop);
    };
    co_return co_await run_on(context.pool(), std::move(work));
}

} // namespace detail

OVERMOUNT_DECL boost::asio::awaitable<std::vector<found_image>> docker_archive::discover(import_context context) const
{
    return detail::discover_docker_on_worker(path_, name_, std::move(context));
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
