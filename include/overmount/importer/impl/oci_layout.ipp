#ifndef OVERMOUNT_IMPORTER_IMPL_OCI_LAYOUT_IPP
#define OVERMOUNT_IMPORTER_IMPL_OCI_LAYOUT_IPP

#include <overmount/importer/discover.hpp>
#include <overmount/importer/image_files.hpp>
#include <overmount/importer/oci_layout.hpp>
#include <overmount/oci/detail/json.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/runtime/run_on.hpp>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

// The manifest that a descriptor leads to, possibly through indexes, and the outermost of these indexes.
struct found_manifest
{
    manifest value;
    std::optional<std::string> index;
};

OVERMOUNT_LAZY inline found_manifest find_manifest(image_files& files, descriptor what, const import_context& context)
{
    std::optional<std::string> outermost;
    for (unsigned depth = 0; depth < context.bounds().index_depth; ++depth) {
        std::string text = files.document(what);
        const std::string path = layout_blob_path(what.digest());
        if (!is_index_media_type(what.media_type()))
            return in_document(path, [&] {
                if (!what.media_type().empty() && !is_manifest_media_type(what.media_type()))
                    throw error(errc::unsupported_media_type).at(stage::manifest).subject(what.media_type());
                return found_manifest{manifest::parse(std::move(text), context.bounds()),
                                      std::move(outermost)};
            });
        if (!outermost)
            outermost = text;
        what = in_document(
            path, [&] { return index::parse(std::move(text), context.bounds()).select(context.wanted()); });
    }
    throw error(errc::invalid_index).at(stage::manifest).detail("indexes are nested too deeply");
}

OVERMOUNT_LAZY inline found_image read_image(image_files& files, found_manifest found, const limits& bounds)
{
    const descriptor& described = found.value.config();
    const std::string path = layout_blob_path(described.digest());
    std::string text = files.document(described);
    found_image out{in_document(path, [&] { return image_config::parse(std::move(text), bounds); }), {}};
    const std::vector<diff_id>& diffs = out.config.diff_ids();
    if (diffs.size() != found.value.layers().size())
        throw error(errc::invalid_config)
            .at(stage::manifest)
            .entry(path)
            .detail("the manifest and the config have different numbers of layers");
    for (std::size_t i = 0; i < diffs.size(); ++i) {
        const layer_descriptor& layer = found.value.layers()[i];
        const std::string name = layout_blob_path(layer.blob.digest());
        const layer_source bytes = files.layer(name, diffs[i]);
        if (bytes.size() != layer.blob.size())
            throw error(errc::size_mismatch).at(stage::source).layer(diffs[i].string()).subject(name);
        out.layers.push_back({diffs[i], bytes, layer.blob.digest(), layer.promised});
    }
    out.manifest = found.value.bytes();
    out.index = std::move(found.index);
    return out;
}

// The full form of an image name; nullopt unless it has a slash or a colon, since a bare `latest` does not name an image.
OVERMOUNT_LAZY inline std::optional<std::string> full_image_name(const std::string& name)
{
    if (name.find_first_of("/:") == std::string::npos)
        return std::nullopt;
    try {
        return reference::parse(name).with_default_tag().string();
    } catch (const error&) {
        return std::nullopt; // a reference name may be any text
    }
}

// The name of an entry of index.json: containerd's annotation, a full name, or else the annotation of the spec, any text.
OVERMOUNT_LAZY inline const std::string& name_of(const descriptor& entry)
{
    return entry.image_name().empty() ? entry.ref_name() : entry.image_name();
}

OVERMOUNT_LAZY inline bool is_named(const descriptor& entry, const std::string& name)
{
    const auto full = full_image_name(name);
    return entry.ref_name() == name || entry.image_name() == name ||
           (full &&
            (full_image_name(entry.image_name()) == full || full_image_name(entry.ref_name()) == full));
}

// Groups entries that are the same image for different platforms: entries with the same name. All entries that have a platform
// but no name are one image; an entry with neither is an image of its own.
OVERMOUNT_LAZY inline std::vector<std::vector<descriptor>> group_by_image(const std::vector<descriptor>& entries,
                                                                          const std::string& wanted)
{
    std::vector<std::vector<descriptor>> out;
    for (const descriptor& entry : entries) {
        if (!wanted.empty() && !is_named(entry, wanted))
            continue;
        const auto same = std::find_if(out.begin(), out.end(), [&](const auto& group) {
            return name_of(group.front()) == name_of(entry) &&
                   (!name_of(entry).empty() || (entry.platform() && group.front().platform()));
        });
        if (same == out.end())
            out.push_back({entry});
        else if (std::none_of(same->begin(), same->end(), [&](const auto& e) { return e.digest() == entry.digest(); }))
            same->push_back(entry);
    }
    return out;
}

OVERMOUNT_LAZY inline const descriptor& choose(const std::vector<descriptor>& group, const platform& wanted)
{
    if (group.size() == 1)
        return group.front();
    const descriptor& chosen = index::select_from(group, wanted);
    if (!chosen.platform() && std::count_if(group.begin(), group.end(), [](const auto& e) { return !e.platform(); }) > 1)
        throw error(errc::ambiguous_image)
            .at(stage::manifest)
            .subject(name_of(chosen))
            .detail("several entries of the index have this name and none has a platform");
    return chosen;
}

OVERMOUNT_LAZY inline void check_layout_version(image_files& files, const std::string& path, const limits& bounds)
{
    const auto refuse = [&path](std::string_view why) {
        return error(errc::unknown_archive_format).at(stage::source).subject(path).detail(why);
    };
    for (const char* name : {"oci-layout", "index.json"})
        if (!files.find(name))
            throw refuse("it has no " + std::string(name));
    std::string version;
    const auto root = json_object({{"imageLayoutVersion", json_text(version).required()}});
    std::string text = files.document("oci-layout");
    in_document("oci-layout", [&] { read_json(text, bounds, errc::unknown_archive_format, root); });
    if (version != "1.0.0")
        throw refuse("the version of the OCI layout is not 1.0.0");
}

OVERMOUNT_LAZY_BODY std::vector<found_image> discover_layout(image_files& files, const std::string& path,
                                                             const std::string& wanted, const import_context& context,
                                                             const stop_flag& stop)
{
    check_layout_version(files, path, context.bounds());
    std::string text = files.document("index.json");
    const index top =
        in_document("index.json", [&] { return index::parse(std::move(text), context.bounds()); });
    const auto groups = group_by_image(top.entries(), wanted);
    if (groups.empty()) {
        std::string names;
        for (const descriptor& entry : top.entries())
            names +=
                (names.empty() ? "" : ", ") + (name_of(entry).empty() ? "(no name)" : escape(name_of(entry)));
        throw error(errc::missing_image)
            .at(stage::manifest)
            .subject(wanted)
            .detail("the images in the index are: " + (names.empty() ? "none" : names));
    }
    std::vector<found_image> out;
    for (const auto& group : groups) {
        stop.throw_if_stopped();
        const descriptor& chosen =
            in_document("index.json", [&]() -> auto& { return choose(group, context.wanted()); });
        out.push_back(read_image(files, find_manifest(files, chosen, context), context.bounds()));
        for (const std::string& name : {chosen.image_name(), chosen.ref_name()})
            if (auto full = full_image_name(name); full && out.back().tags.empty())
                out.back().tags.push_back(std::move(*full));
        out.back().source = path;
    }
    return out;
}

OVERMOUNT_LAZY inline boost::asio::awaitable<std::vector<found_image>>
discover_layout_on_worker(std::string path, std::string name, import_context context)
{
    auto work = [path, name, context](const stop_flag& stop) {
        image_files files(path, context.bounds());
        return discover_layout(files, path, name, context, stop);
    };
    co_return co_await run_on(context.pool(), std::move(work));
}

} // namespace detail

OVERMOUNT_LAZY_BODY boost::asio::awaitable<std::vector<found_image>>
oci_layout::discover(import_context context) const
{
    return detail::discover_layout_on_worker(path_, name_, std::move(context));
}

} // namespace overmount::OVERMOUNT_ABI

#endif
