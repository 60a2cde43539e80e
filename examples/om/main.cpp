// om: the command line tool. One function a command; all of them are small programs on the library.
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>

namespace asio = boost::asio;
namespace om = overmount;

namespace {

// What the options in front of the command say.
class settings
{
public:
    std::string directory, storage = "on-disk";
    std::string durability = "batch";
    bool quiet = false, json = false;
};

// What a command was given.
class arguments
{
public:
    std::string first, second, target, parent, arch;
    std::vector<std::string> tags;
    bool writable = false;
};

using command = asio::awaitable<void> (*)(om::repository, settings, arguments);

// Whether all that was printed has arrived.
void check_output()
{
    if (!std::cout.flush())
        throw std::runtime_error("cannot write to standard output");
}

// One line on a terminal that says how far an import is.
class progress_line
{
public:
    void operator()(const om::layer_progress& at)
    {
        const std::lock_guard guard(mutex_);
        auto& layer = layers_[at.layer()];
        read_ += at.read() - layer.first;
        total_ += at.size() - layer.second;
        layer = {at.read(), at.size()};
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

// `TRANSPORT:PATH[:NAME]`, cut at its colons; a path of an existing file may hold some.
class location
{
public:
    explicit location(const std::string& text)
    {
        const auto colon = text.find(':');
        transport = text.substr(0, colon);
        path = colon == std::string::npos ? "" : text.substr(colon + 1);
        for (auto cut = path.find(':'); cut != std::string::npos; cut = path.find(':', cut + 1)) {
            if (::access(path.c_str(), F_OK) == 0)
                break;
            if (::access(path.substr(0, cut).c_str(), F_OK) == 0) {
                name = path.substr(cut + 1);
                path.resize(cut);
                break;
            }
        }
    }
    std::string transport, path, name;
};

// Standard input, or a file that cannot be read by offset.
asio::posix::stream_descriptor open_stream(const std::string& name, const asio::any_io_executor& executor)
{
    // Opened anew where that can be: it becomes non-blocking, which others with the same descriptor would
    // notice.
    int fd = ::open(name == "-" ? "/proc/self/fd/0" : name.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && name == "-")
        fd = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        throw om::error::from_errno(errno).at(om::stage::source).operation("open").subject(name);
    return {executor, fd};
}

asio::awaitable<std::vector<om::image>> import_standard_input(om::repository repository, om::import_options options)
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

asio::awaitable<void> image_import(om::repository repository, settings set, arguments given)
{
    om::import_options options;
    for (const std::string& tag : given.tags)
        options.tag(tag);
    if (!given.arch.empty())
        options.wanted(om::platform::parse(given.arch));
    auto line = std::make_shared<progress_line>();
    if (!set.quiet && ::isatty(STDERR_FILENO) == 1)
        options.progress([line](const om::layer_progress& at) { (*line)(at); });
    const location source(given.first);
    std::vector<om::image> images;
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
    for (const om::image& image : images)
        std::cout << image.id().string() << '\n';
}

std::uint64_t size_of(const om::repository& repository, const om::image& image)
{
    std::uint64_t size = 0;
    for (const om::diff_id& diff : image.config().diff_ids())
        size += repository.diff(diff).bytes;
    return size;
}

std::string readable(std::uint64_t bytes)
{
    char text[32];
    if (bytes < 1'000'000)
        std::snprintf(text, sizeof text, "%.1f kB", static_cast<double>(bytes) / 1e3);
    else
        std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
    return text;
}

asio::awaitable<void> image_list(om::repository repository, settings set, arguments)
{
    auto out = nlohmann::json::array();
    const auto tags = repository.tags();
    for (const om::image& image : repository.images()) {
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

asio::awaitable<void> image_list_layers(om::repository repository, settings set, arguments given)
{
    const om::image image = repository.find_image(given.first);
    auto out = nlohmann::json::array();
    for (const om::chain_id& chain : image.layers()) {
        const om::diff_id diff = repository.layer(chain).diff;
        const om::diff_record record = repository.diff(diff);
        out.push_back({{"depth", out.size()},
                       {"chain_id", chain.string()},
                       {"diff_id", diff.string()},
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

asio::awaitable<void> image_inspect(om::repository repository, settings, arguments given)
{
    const om::image image = repository.find_image(given.first);
    std::cout << nlohmann::ordered_json::parse(image.config().bytes()).dump(2) << '\n';
    co_return;
}

asio::awaitable<void> image_mount(om::repository repository, settings, arguments given)
{
    const om::image image = repository.find_image(given.first);
    om::mount_options options;
    options.target(given.target).writable(given.writable);
    auto mounted = co_await image.mount(std::move(options));
    std::cout << mounted.target() << '\n';
    check_output(); // a mount that nobody knows of is not kept
    mounted.keep();
}

asio::awaitable<void> image_unmount(om::repository repository, settings, arguments given)
{
    const std::string target = std::filesystem::absolute(given.first).lexically_normal().string();
    std::optional<om::digest> id;
    std::vector<om::mount_record> chosen;
    for (const om::mount_record& record : repository.mounts())
        if (record.target == target)
            chosen.push_back(record);
    if (chosen.empty()) {
        id = repository.find_image(given.first).id();
        for (const om::mount_record& record : repository.mounts())
            if (record.image == *id)
                chosen.push_back(record);
    }
    if (chosen.empty())
        throw om::error(om::errc::mount_not_found).subject(given.first);
    for (const om::mount_record& record : chosen)
        co_await repository.unmount(record);
}

asio::awaitable<void> image_remove(om::repository repository, settings, arguments given)
{
    repository.remove_image(repository.find_image(given.first).id());
    co_return;
}

asio::awaitable<void> layer_create(om::repository repository, settings, arguments given)
{
    std::optional<om::chain_id> parent, made;
    if (!given.parent.empty())
        parent = om::chain_id::parse(given.parent);
    if (given.first == "-" && ::isatty(STDIN_FILENO) == 1)
        throw om::error(om::errc::invalid_layer).detail("standard input is a terminal");
    const std::string file = given.first == "-" ? "/proc/self/fd/0" : given.first;
    if (!std::filesystem::exists(file) || std::filesystem::is_regular_file(file)) {
        made = co_await repository.create_layer(file, std::move(parent));
    } else {
        auto stream = open_stream(given.first, co_await asio::this_coro::executor);
        made = co_await repository.create_layer(std::move(stream), std::move(parent));
    }
    std::cout << made->string() << '\n';
}

asio::awaitable<void> layer_list(om::repository repository, settings set, arguments)
{
    auto out = nlohmann::json::array();
    for (const om::chain_id& chain : repository.layers()) {
        const om::layer_record record = repository.layer(chain);
        out.push_back({{"chain_id", chain.string()},
                       {"diff_id", record.diff.string()},
                       {"parent", record.parent ? nlohmann::json(record.parent->string()) : nlohmann::json()}});
    }
    if (set.json)
        std::cout << out.dump(2) << '\n';
    else
        for (const auto& layer : out)
            std::cout << layer["chain_id"].get<std::string>() << "  diff " << layer["diff_id"].get<std::string>() << '\n';
    co_return;
}

asio::awaitable<void> tag_add(om::repository repository, settings, arguments given)
{
    repository.add_tag(given.first, repository.find_image(given.second).id());
    co_return;
}

asio::awaitable<void> tag_get(om::repository repository, settings, arguments given)
{
    std::cout << repository.tag(given.first).image.string() << '\n';
    co_return;
}

asio::awaitable<void> tag_list(om::repository repository, settings set, arguments)
{
    auto out = nlohmann::json::array();
    for (const om::tag_record& tag : repository.tags())
        out.push_back({{"name", tag.name}, {"image", tag.image.string()}});
    if (set.json)
        std::cout << out.dump(2) << '\n';
    else
        for (const auto& tag : out)
            std::cout << tag["name"].get<std::string>() << "  " << tag["image"].get<std::string>() << '\n';
    co_return;
}

asio::awaitable<void> tag_remove(om::repository repository, settings, arguments given)
{
    repository.remove_tag(given.first);
    co_return;
}

asio::awaitable<void> run(command what, settings set, arguments given)
{
    om::repository_options options;
    options.sync(set.durability == "none"   ? om::durability::none
                 : set.durability == "full" ? om::durability::full
                                            : om::durability::batch);
    om::repository repository = co_await om::repository::open(set.directory, std::move(options));
    co_await what(repository, std::move(set), std::move(given));
}

std::string default_directory()
{
    if (const char* chosen = std::getenv("OVERMOUNT_REPO"); chosen != nullptr && *chosen != '\0')
        return chosen;
    const char* home = std::getenv("HOME");
    return (home != nullptr ? std::string(home) : std::string(".")) + "/.overmount";
}

} // namespace

int main(int argc, char** argv)
{
    CLI::App app("Brings container images into a repository of layers and mounts them", "om");
    settings set;
    set.directory = default_directory();
    arguments given;
    command chosen = nullptr;
    app.add_option("--repo", set.directory, "directory of the repository ($OVERMOUNT_REPO)")->capture_default_str();
    app.add_flag("--quiet,-q", set.quiet, "no progress on a terminal");
    app.add_flag("--json", set.json, "output as JSON");
    app.add_option("--durability", set.durability, "what survives a power cut: none, batch (as each import ends), full")
        ->check(CLI::IsMember({"none", "batch", "full"}))
        ->type_name("HOW")
        ->capture_default_str();
    app.set_version_flag("--version", "om " OVERMOUNT_VERSION);
    app.require_subcommand(1);
    app.fallthrough();

    const auto group = [&](const char* name, const char* help) {
        CLI::App* made = app.add_subcommand(name, help);
        made->require_subcommand(1);
        made->fallthrough();
        return made;
    };
    const auto verb = [&](CLI::App* parent, const char* name, const char* help, command function) {
        CLI::App* made = parent->add_subcommand(name, help);
        made->fallthrough();
        made->callback([&chosen, function] { chosen = function; });
        return made;
    };
    CLI::App* images = group("image", "Images: import, look at, mount");
    auto* sub = verb(images, "import", "Import images; prints their IDs", image_import);
    sub->add_option("SOURCE", given.first, "docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME]")->required();
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
    sub->add_option("--platform", given.arch, "OS/ARCHITECTURE[/VARIANT] to choose from an index");
    verb(images, "list", "List the images", image_list);
    const auto takes_image = [&](CLI::App* made) {
        made->add_option("IMAGE", given.first, "a tag, an ID, or the beginning of one")->required();
        return made;
    };
    takes_image(verb(images, "list-layers", "List an image's layers, topmost first", image_list_layers));
    takes_image(verb(images, "inspect", "Print an image's config", image_inspect));
    sub = takes_image(verb(images, "mount", "Mount an image; prints the mount point", image_mount));
    sub->add_option("--target", given.target, "the directory to mount at");
    sub->add_flag("--writable", given.writable, "take changes, and drop them when unmounted");
    sub = verb(images, "unmount", "Unmount an image", image_unmount);
    sub->add_option("IMAGE-OR-DIR", given.first, "the image, or where it is mounted")->required();
    takes_image(verb(images, "remove", "Remove an image and its tags", image_remove));
    CLI::App* layers = group("layer", "Layers");
    sub = verb(layers, "create", "Make a layer from a tar, compressed or not; prints its chain ID",
               layer_create);
    sub->add_option("FILE", given.first, "the tar, or - for standard input")->required();
    sub->add_option("--parent", given.parent, "chain ID of the layer below");
    verb(layers, "list", "List the layers", layer_list);
    CLI::App* tags = group("tag", "Names of images");
    sub = verb(tags, "add", "Name an image", tag_add);
    sub->add_option("NAME", given.first)->required();
    sub->add_option("IMAGE", given.second)->required();
    sub = verb(tags, "get", "Print the ID of the image that a name stands for", tag_get);
    sub->add_option("NAME", given.first)->required();
    verb(tags, "list", "List the names", tag_list);
    sub = verb(tags, "remove", "Remove a name", tag_remove);
    sub->add_option("NAME", given.first)->required();

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& problem) {
        return app.exit(problem) == 0 ? 0 : 2;
    }
    std::exception_ptr failure;
    asio::io_context context(1);
    asio::co_spawn(context, run(chosen, set, given), [&failure](std::exception_ptr ended) { failure = ended; });
    context.run();
    try {
        if (failure)
            std::rethrow_exception(failure);
        check_output();
        return 0;
    } catch (const std::exception& problem) {
        std::cerr << "om: " << problem.what() << '\n';
        return 1;
    }
}
