// om image: import, look at, mount.
#include "om.hpp"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>

namespace {

// One line on a terminal that says how far an import is.
class progress_line
{
public:
    void operator()(const om::layer_progress& at)
    {
        const std::lock_guard guard(mutex_);
        auto& layer = layers_[at.layer()];
        read_ += at.read() - layer.first;
        total_ += at.size().value_or(at.read()) - layer.second;
        layer = {at.read(), at.size().value_or(at.read())};
        std::cerr << "\r\033[K" << layers_.size() << (layers_.size() == 1 ? " layer, " : " layers, ") << read_ / 1000000
                  << " of " << total_ / 1000000 << " MB" << std::flush;
        shown_ = true;
    }
    ~progress_line()
    {
        if (shown_)
            std::cerr << "\r\033[K" << std::flush;
    }

private:
    std::mutex mutex_;
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> layers_;
    std::uint64_t read_ = 0, total_ = 0;
    bool shown_ = false;
};

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
    om::import_options options;
    for (const std::string& tag : given.tags)
        options.tag(tag);
    options.keep_blobs(given.keep_blobs);
    if (!given.arch.empty())
        options.wanted(om::platform::parse(given.arch));
    auto line = std::make_shared<progress_line>();
    if (!set.quiet && ::isatty(STDERR_FILENO) == 1)
        options.progress([line](const om::layer_progress& at) { (*line)(at); });
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
            .detail("a source is docker-archive:FILE, oci:DIR or oci-archive:FILE, each with :NAME behind it or not, or -");
    }
    line.reset();
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

// Whether images of such a repository can be mounted.
template <class Repository>
concept mounts = requires(const typename Repository::image& image) { image.mount(); };

[[noreturn]] void refuse_mounts()
{
    throw om::error(om::errc::mount_cannot_proceed)
        .detail("a virtual repository keeps tars and unpacks nothing: import the image into one on disk");
}

// The mounts that a directory, the ID of one, or an image names. An image names those that are alive only: what was written
// in one that is stopped is not to go by accident.
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
            .detail(stopped.empty() ? "" : "of the image only mounts that are stopped are there: " + stopped);
    co_return out;
}

om::mount_record only_mount(const std::vector<om::mount_record>& found, const std::string& name)
{
    if (found.empty())
        throw om::error(om::errc::mount_not_found).subject(name);
    if (found.size() > 1)
        throw om::error(om::errc::mount_cannot_proceed).subject(name).detail("it means several mounts: name one by its ID");
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
        if (!std::cout) { // nobody would know where it is
            if (!given.again)
                co_await mounted->unmount();
            throw om::error(om::errc::mount_cannot_proceed).detail("the mount point cannot be written to standard output");
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
    // One whose config is damaged is removed by its whole ID.
    const auto id = om::digest::try_parse(given.first);
    co_await repository.remove_image(id ? *id : repository.find_image(given.first).id());
}

} // namespace

void add_image_commands(words& to)
{
    arguments& given = to.given();
    CLI::App* images = to.group("image", "Images: import, look at, mount");
    auto* sub = to.verb(images, "import", "Import images; prints their IDs", {image_import, image_import});
    sub->add_option("SOURCE", given.first, "docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME]")->required();
    sub->add_flag("--keep-blobs", given.keep_blobs, "keep the compressed layers: an export gives them back as they came");
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
    sub->add_option("--platform", given.arch, "OS/ARCHITECTURE[/VARIANT] to choose from an index");
    add_compose_command(to, images);
    add_export_command(to, images);
    add_merged_commands(to, images);
    to.verb(images, "list", "List the images", {image_list, image_list});
    const auto takes_image = [&](const char* name, const char* help, command function) {
        CLI::App* made = to.verb(images, name, help, function);
        made->add_option("IMAGE", given.first, "a tag, an ID, or the beginning of one")->required();
        return made;
    };
    takes_image("list-layers", "List an image's layers, topmost first", {image_list_layers, image_list_layers});
    takes_image("inspect", "Print an image's config", {image_inspect, image_inspect});
    sub = takes_image("mount", "Mount an image; prints the mount point", {image_mount, image_mount});
    sub->add_option("--target", given.target, "the directory to mount at");
    sub->add_flag("--accept-damaged", given.accept_damaged, "also layers that a check found damaged, as they are");
    sub->add_flag("--writable", given.writable, "take changes; unless committed, they go when it is unmounted");
    sub->add_flag("--again", given.again, "IMAGE is the ID of a mount that is stopped, or where it was: mount it with its changes");
    const char* const not_durable = "also where files may be incomplete: the machine went down, and nothing had been synced";
    sub->add_flag("--accept-not-durable", given.accept_not_durable, not_durable);
    to.verb(images, "mounts", "List the mounts, also those that are stopped", {image_mounts, image_mounts});
    sub = to.verb(images, "unmount", "Unmount an image, or remove a mount that is stopped; its changes go",
                  {image_unmount, image_unmount});
    sub->add_option("MOUNT", given.first, "where it is mounted, or was; the ID of a mount; or the image")->required();
    sub = to.verb(images, "commit", "Make what was written in a mount a layer and an image; prints its ID",
                  {image_commit, image_commit});
    sub->add_option("MOUNT", given.first, "where it is mounted, or was; the ID of a mount; or the image")->required();
    sub->add_flag("--accept-not-durable", given.accept_not_durable, not_durable);
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
    sub->add_option("--message,-m", given.message, "what the image's history says of it");
    sub = to.verb(images, "remove", "Remove an image and its tags; om gc then frees its space", {image_remove, image_remove});
    CLI::App* which = sub->add_option_group("which")->require_option(1);
    which->add_option("IMAGE", given.first, "a tag, an ID, or the beginning of one");
    which->add_flag("--unused", given.unused, "all images without a tag, a mount and a lease; prints their IDs");
}
