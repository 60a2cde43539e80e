#ifndef OVERMOUNT_IMPL_OCI_LAYOUT_IPP
#define OVERMOUNT_IMPL_OCI_LAYOUT_IPP

#include <overmount/detail/run_on.hpp>
#include <overmount/importer/image_files.hpp>
#include <overmount/importer/oci_layout.hpp>
#include <overmount/reference.hpp>

#include <algorithm>

namespace overmount::inline OVERMOUNT_ABI {
namespace detail {

inline std::string blob_path(const digest& id)
{
    return "blobs/" + std::string(to_string(id.algorithm())) + "/" + id.hex();
}

// A document of a layout, checked against what points to it.
inline std::string read_document(const image_files& files, const descriptor& what, const limits& bounds)
{
    const std::string path = blob_path(what.digest());
    std::string text = files.document(path, bounds);
    if (text.size() != what.size())
        throw error(errc::size_mismatch).at(stage::manifest).subject(path);
    if (digest::of(text, what.digest().algorithm()) != what.digest())
        throw error(errc::digest_mismatch).at(stage::manifest).subject(path);
    return text;
}

// The manifest that a descriptor leads to, through indexes.
inline manifest find_manifest(const image_files& files, descriptor what, const import_context& context)
{
    for (unsigned depth = 0; depth < context.bounds().index_depth; ++depth) {
        std::string text = read_document(files, what, context.bounds());
        if (!is_index_media_type(what.media_type()))
            return manifest::parse(std::move(text), context.bounds());
        what = index::parse(std::move(text), context.bounds()).select(context.wanted());
    }
    throw error(errc::invalid_index).at(stage::manifest).detail("indexes nest too deep");
}

inline found_image read_image(const image_files& files, manifest found, const limits& bounds)
{
    image_config config = image_config::parse(read_document(files, found.config(), bounds), bounds);
    if (config.diff_ids().size() != found.layers().size())
        throw error(errc::invalid_config)
            .at(stage::manifest)
            .detail("the manifest and the config name different numbers of layers");
    std::vector<found_layer> layers;
    for (std::size_t i = 0; i < found.layers().size(); ++i) {
        const layer_descriptor& layer = found.layers()[i];
        const file_range bytes = files.get(blob_path(layer.blob.digest()));
        if (bytes.size() != layer.blob.size())
            throw error(errc::size_mismatch).at(stage::source).layer(layer.blob.digest().string());
        layers.push_back({config.diff_ids()[i], bytes, layer.blob.digest(), layer.promised});
    }
    return {std::move(config), std::move(layers), found.bytes(), {}, {}};
}

// What names an entry of index.json for people: the annotation of the spec, or containerd's.
inline bool is_named(const descriptor& entry, const std::string& name)
{
    return entry.ref_name() == name || entry.image_name() == name;
}

// A reference name that is a full image name becomes a tag; a bare `latest` says nothing of the image.
inline std::vector<std::string> tags_of(const descriptor& entry)
{
    for (const std::string& name : {entry.image_name(), entry.ref_name()}) {
        if (name.find_first_of("/:") == std::string::npos)
            continue;
        try {
            return {reference::parse(name).with_default_tag().string()};
        } catch (const error&) {
            continue; // a ref name may be any text
        }
    }
    return {};
}

inline std::vector<found_image> discover_layout(const std::string& path, const std::string& wanted,
                                                const import_context& context, const stop_flag& stop)
{
    struct stat status;
    check(::stat(path.c_str(), &status), "stat", path);
    const image_files files =
        S_ISDIR(status.st_mode) ? image_files::of_directory(path) : image_files::of_archive(path, context.bounds());
    if (!files.find("index.json"))
        throw error(errc::unknown_archive_format).at(stage::source).subject(path).detail("it has no index.json");
    const index top = index::parse(files.document("index.json", context.bounds()), context.bounds());
    // One image for each name; entries of one name are platforms of one image.
    std::vector<std::vector<descriptor>> groups;
    std::string names;
    for (const descriptor& entry : top.entries()) {
        names += (names.empty() ? "" : ", ") + (entry.ref_name().empty() ? "(no name)" : escape(entry.ref_name()));
        if (!wanted.empty() && !is_named(entry, wanted))
            continue;
        const auto same = std::ranges::find_if(
            groups, [&](const auto& group) { return group.front().ref_name() == entry.ref_name(); });
        if (same == groups.end())
            groups.push_back({entry});
        else
            same->push_back(entry);
    }
    if (groups.empty())
        throw error(errc::missing_image).at(stage::manifest).subject(wanted).detail("there is: " + names);
    std::vector<found_image> out;
    for (const auto& group : groups) {
        stop.throw_if_stopped();
        const descriptor chosen = group.size() == 1 ? group.front() : index::select_from(group, context.wanted());
        found_image image = read_image(files, find_manifest(files, chosen, context), context.bounds());
        image.tags = tags_of(chosen);
        image.source = path;
        out.push_back(std::move(image));
    }
    return out;
}

inline boost::asio::awaitable<std::vector<found_image>> discover_layout_on_worker(std::string path, std::string name,
                                                                                  import_context context)
{
    auto work = [path, name, context](const stop_flag& stop) { return discover_layout(path, name, context, stop); };
    co_return co_await run_on(context.pool(), std::move(work));
}

} // namespace detail

OVERMOUNT_DECL boost::asio::awaitable<std::vector<found_image>> oci_layout::discover(import_context context) const
{
    return detail::discover_layout_on_worker(path_, name_, std::move(context));
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
