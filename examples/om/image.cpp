// om image: import, list, mount, commit and remove images.
#include "om.hpp"
#include "progress.hpp"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <cstdlib>
#include <iostream>

namespace {

template <class Repository>
asio::awaitable<std::vector<typename Repository::image>> import_standard_input(Repository repository,
                                                                              om::import_options options)
{
    if (::isatty(STDIN_FILENO) == 1)
        throw om::error(om::errc::unknown_archive_format).detail("standard input is a terminal");
    if (const std::string file = "/proc/self/fd/0"; std::filesystem::is_regular_file(file)) {
        om::archive_file archive(file);
        co_return co_await repository.import_images(std::move(archive), std::move(options));
    }
    om::archive_stream archive(om::byte_stream(open_stream("-", co_await asio::this_coro::executor)));
    co_return co_await repository.import_images(std::move(archive), std::move(options));
}

template <class Repository>
asio::awaitable<void> image_import(Repository repository, settings set, arguments given)
{
    if (given.first.starts_with("docker://")) {
        given.images = {given.first};
        co_await pull_image(std::move(repository), std::move(set), std::move(given));
        co_return;
    }
    const auto shown = progress_of(set);
    om::import_options options = import_options_of(given, shown);
    const location source(given.first);
    std::vector<typename Repository::image> images;
    if (source.transport.ends_with("-archive") && om::is_compressed(source.path)) {
        om::archive_file archive(source.path, source.name);
        images = co_await repository.import_images(std::move(archive), std::move(options));
    } else if (source.transport == "docker-archive") {
        om::docker_archive archive(source.path, source.name);
        images = co_await repository.import_images(std::move(archive), std::move(options));
    } else if (given.first == "-") {
        images = co_await import_standard_input(repository, std::move(options));
    } else if (source.transport == "oci" || source.transport == "oci-archive") {
        om::oci_layout layout(source.path, source.name);
        images = co_await repository.import_images(std::move(layout), std::move(options));
    } else {
        throw om::error(om::errc::unknown_archive_format)
            .subject(given.first)
            .detail("a source is docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME], docker://NAME, or - for standard "
                    "input");
    }
    shown->clear();
    for (const auto& image : images)
        std::cout << image << '\n';
}

template <class Repository>
std::uint64_t size_of(const Repository& repository, const typename Repository::image& image)
{
    std::uint64_t size = 0;
    for (const om::diff_id& diff : image.config().diff_ids()) {
        try {
            size += repository.diff(diff).bytes;
        } catch (const om::error& damaged) {
            warn(damaged);
        }
    }
    return size;
}

template <class Repository>
asio::awaitable<void> image_list(Repository repository, settings set, arguments)
{
    auto out = nlohmann::json::array();
    const auto tags = repository.tags(warn);
    for (const auto& image : repository.images(warn)) {
        std::vector<std::string> names;
        for (const om::tag_record& tag : tags)
            if (tag.image == image.id())
                names.push_back(tag.name);
        out.push_back({{"id", image.id().string()},
                       {"tags", names},
                       {"created", image.config().created()},
                       {"layers", image.config().diff_ids().size()},
                       {"size", size_of(repository, image)}});
    }
    if (set.json) {
        std::cout << out.dump(2) << '\n';
        co_return;
    }
    for (const auto& image : out) {
        std::vector<std::string> names = image["tags"];
        if (names.empty())
            names.emplace_back("<none>");
        for (const std::string& name : names)
            std::printf("%-50s %.12s  %3u layers  %10s\n", name.c_str(), image["id"].get<std::string>().c_str() + 7,
                        image["layers"].get<unsigned>(), readable(image["size"]).c_str());
    }
}

template <class Repository>
asio::awaitable<void> image_list_layers(Repository repository, settings set, arguments given)
{
    const auto image = repository.find_image(given.first);
    auto out = nlohmann::json::array();
    for (const auto& layer : image.layers()) {
        const om::diff_record record = layer.record();
        out.push_back({{"depth", out.size()},
                       {"chain_id", layer.id().string()},
                       {"diff_id", layer.diff().string()},
                       {"size", record.bytes},
                       {"entries", record.entries}});
    }
    if (set.json) {
        std::cout << out.dump(2) << '\n';
        co_return;
    }
    for (const auto& layer : out)
        std::printf("%3u  chain %.19s  diff %.19s  %10s  %u entries\n", layer["depth"].get<unsigned>(),
                    layer["chain_id"].get<std::string>().c_str(), layer["diff_id"].get<std::string>().c_str(),
                    readable(layer["size"]).c_str(), layer["entries"].get<unsigned>());
}

template <class Repository>
asio::awaitable<void> image_inspect(Repository repository, settings, arguments given)
{
    const auto image = repository.find_image(given.first);
    std::cout << nlohmann::ordered_json::parse(image.config().bytes()).dump(2) << '\n';
    co_return;
}

// Whether images of the repository can be mounted.
template <class Repository>
concept mounts = requires(const typename Repository::image& image) { image.mount(); };

[[noreturn]] void refuse_mounts()
{
    throw om::error(om::errc::mount_not_possible)
        .detail("a virtual repository keeps tars and cannot mount them: import the image into a repository with on-disk storage");
}

// Finds mounts by a directory, the ID of a mount, or an image. An image stands for its alive mounts only, so that what was written in
// a stopped one is not removed by accident.
asio::awaitable<std::vector<om::mount_record>> find_mounts(om::repository repository, std::string name)
{
    std::vector<om::mount_record> out = repository.find_mounts(name);
    if (!out.empty())
        co_return out;
    std::string stopped;
    const om::digest id = repository.find_image(name).id();
    for (const om::mount_record& record : repository.mounts()) {
        if (record.image != id)
            continue;
        const om::mount_state state = co_await repository.state_of(record);
        if (state == om::mount_state::alive)
            out.push_back(record);
        else
            stopped += (stopped.empty() ? "" : ", ") + record.id;
    }
    if (out.empty())
        throw om::error(om::errc::mount_not_found)
            .subject(name)
            .detail(stopped.empty() ? "" : "the image has only stopped mounts, name one by its ID: " + stopped);
    co_return out;
}

om::mount_record only_mount(const std::vector<om::mount_record>& found, const std::string& name)
{
    if (found.empty())
        throw om::error(om::errc::mount_not_found).subject(name);
    if (found.size() > 1)
        throw om::error(om::errc::mount_not_possible).subject(name).detail("there are several mounts: name one by its ID");
    return found.front();
}

template <class Repository>
asio::awaitable<void> image_mount(Repository repository, settings, arguments given)
{
    if constexpr (!mounts<Repository>) {
        refuse_mounts();
    } else {
        om::mount_options options;
        options.target(given.target).writable(given.writable).accept_not_durable(given.accept_not_durable);
        options.accept_damaged(given.accept_damaged);
        std::optional<om::mount> mounted;
        if (given.again)
            mounted = co_await repository.mount_again(only_mount(repository.find_mounts(given.first), given.first), std::move(options));
        else
            mounted = co_await repository.find_image(given.first).mount(std::move(options));
        std::cout << mounted->target() << std::endl;
        if (!std::cout) { // the caller would not know the mount point
            if (!given.again)
                co_await mounted->unmount();
            throw om::error(om::errc::mount_not_possible).detail("the mount point cannot be written to standard output");
        }
        mounted->keep();
    }
    co_return;
}

template <class Repository>
asio::awaitable<void> image_mounts(Repository repository, settings all, arguments)
{
    if constexpr (!mounts<Repository>) {
        refuse_mounts();
    } else {
        auto list = nlohmann::ordered_json::array();
        for (const om::mount_record& record : repository.mounts(warn)) {
            const om::mount_state state = co_await repository.state_of(record);
            if (!all.json) {
                std::cout << record.id << "  " << (state == om::mount_state::alive ? "alive  " : "stopped") << "  "
                          << (record.writable ? "rw" : "ro") << "  "
                          << (record.image ? record.image->hex() : "layer:" + record.layer->value().hex()).substr(0, record.image ? 12 : 18)
                          << "  " << om::escape(record.target) << '\n';
                continue;
            }
            nlohmann::ordered_json one;
            one["id"] = record.id;
            one["image"] = record.image ? nlohmann::ordered_json(record.image->string()) : nlohmann::ordered_json();
            one["layer"] = record.layer ? nlohmann::ordered_json(record.layer->string()) : nlohmann::ordered_json();
            one["target"] = om::escape(record.target, record.target.size());
            one["writable"] = record.writable;
            one["volatile"] = record.is_volatile;
            one["state"] = om::to_string(state);
            list.push_back(std::move(one));
        }
        if (all.json)
            std::cout << list.dump(2) << '\n';
    }
    co_return;
}

template <class Repository>
asio::awaitable<void> image_unmount(Repository repository, settings, arguments given)
{
    if constexpr (!mounts<Repository>) {
        refuse_mounts();
    } else {
        const auto found = co_await find_mounts(repository, given.first);
        for (const om::mount_record& record : found)
            co_await repository.unmount(record);
    }
    co_return;
}

std::int64_t seconds_of(const std::string& text)
{
    std::int64_t out = 0;
    if (!CLI::detail::lexical_cast(text, out))
        throw CLI::ValidationError("SOURCE_DATE_EPOCH", "not a number of seconds: " + text);
    return out;
}

template <class Repository>
asio::awaitable<void> image_commit(Repository repository, settings, arguments given)
{
    if constexpr (!mounts<Repository>) {
        refuse_mounts();
    } else {
        auto found = co_await find_mounts(repository, given.first);
        std::erase_if(found, [](const om::mount_record& record) { return !record.writable; });
        if (found.empty())
            throw om::error(om::errc::mount_read_only).subject(given.first);
        const om::mount_record from = only_mount(found, given.first);
        om::commit_options options;
        for (const std::string& tag : given.tags)
            options.tag(tag);
        options.message(given.message).created_by("om image commit").accept_not_durable(given.accept_not_durable);
        if (const char* epoch = std::getenv("SOURCE_DATE_EPOCH"); epoch != nullptr && *epoch != '\0')
            options.source_date_epoch(seconds_of(epoch));
        const auto made = co_await repository.commit(from, std::move(options));
        std::cout << made.id().string() << '\n';
    }
    co_return;
}

template <class Repository>
asio::awaitable<void> image_remove(Repository repository, settings set, arguments given)
{
    if (given.unused) {
        auto removed = nlohmann::json::array();
        for (const om::digest& id : co_await repository.remove_unused_images())
            removed.push_back(id.string());
        if (set.json)
            std::cout << removed.dump(2) << '\n';
        else
            for (const auto& id : removed)
                std::cout << id.get<std::string>() << '\n';
        co_return;
    }
    // A whole ID works also for an image with a damaged config.
    const auto id = om::digest::try_parse(given.first);
    co_await repository.remove_image(id ? *id : repository.find_image(given.first).id());
}

} // namespace

void add_image_commands(command_line& to)
{
    arguments& given = to.given();
    CLI::App* images = to.add_group("image", "Import, list, mount, commit and export images");
    auto* sub = to.add_command(images, "import", "Import images; prints their IDs", {image_import, image_import});
    sub->add_option("SOURCE", given.first, "docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME], docker://NAME")->required();
    add_registry_options(sub, given);
    sub->add_flag("--keep-blobs", given.keep_blobs, "keep the compressed layers, to export them as they came");
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
    sub->add_option("--platform", given.arch, "OS/ARCHITECTURE[/VARIANT] to choose from an index");
    add_compose_command(to, images);
    add_export_command(to, images);
    add_merged_commands(to, images);
    to.add_command(images, "list", "List the images", {image_list, image_list});
    const auto takes_image = [&](const char* name, const char* help, command function) {
        CLI::App* made = to.add_command(images, name, help, function);
        made->add_option("IMAGE", given.first, "a tag, an ID, or the first digits of an ID")->required();
        return made;
    };
    takes_image("list-layers", "List an image's layers, topmost first", {image_list_layers, image_list_layers});
    sub = takes_image("inspect", "Print an image's config", {image_inspect, image_inspect});
    sub->add_flag("--raw", given.raw, "of docker://NAME: print the manifest or index as it is");
    sub->add_flag_callback("--config", [] {}, "of docker://NAME: print the config, as by default");
    sub->add_option("--platform", given.arch, "of docker://NAME: OS/ARCHITECTURE[/VARIANT] to choose from an index");
    add_registry_options(sub, given);
    sub->callback([&to] {
        const bool there = to.given().first.starts_with("docker://");
        to.choose(there ? command{nullptr, nullptr, inspect_in_registry} : command{image_inspect, image_inspect});
    });
    add_registry_commands(to, images);
    sub = takes_image("mount", "Mount an image; prints the mount point", {image_mount, image_mount});
    sub->add_option("--target", given.target, "the directory to mount at");
    sub->add_flag("--accept-damaged", given.accept_damaged, "mount also layers that a check found damaged, as they are");
    sub->add_flag("--writable", given.writable, "allow changes; they are removed when it is unmounted, unless committed");
    sub->add_flag("--again", given.again, "IMAGE is the ID or the directory of a stopped mount: mount it again with its changes");
    const char* const not_durable = "also if files may be incomplete because the machine went down before they were synced";
    sub->add_flag("--accept-not-durable", given.accept_not_durable, not_durable);
    to.add_command(images, "mounts", "List the mounts, also stopped ones", {image_mounts, image_mounts});
    sub = to.add_command(images, "unmount", "Unmount an image, or remove a stopped mount, and remove its changes",
                  {image_unmount, image_unmount});
    sub->add_option("MOUNT", given.first, "a mount point, the ID of a mount, or an image")->required();
    sub = to.add_command(images, "commit", "Make an image of what was written in a mount; prints its ID",
                  {image_commit, image_commit});
    sub->add_option("MOUNT", given.first, "a mount point, the ID of a mount, or an image")->required();
    sub->add_flag("--accept-not-durable", given.accept_not_durable, not_durable);
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
    sub->add_option("--message,-m", given.message, "the comment in the image's history");
    sub = to.add_command(images, "remove", "Remove an image and its tags; om gc then frees its space", {image_remove, image_remove});
    CLI::App* which = sub->add_option_group("which")->require_option(1);
    which->add_option("IMAGE", given.first, "a tag, an ID, or the first digits of an ID");
    which->add_flag("--unused", given.unused, "all images without a tag, a mount or a lease; prints their IDs");
}
