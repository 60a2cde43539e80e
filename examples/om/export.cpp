// om image export.
#include "om.hpp"

#include <overmount/posix/fs.hpp>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/this_coro.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <csignal>

namespace {

// Parses `none`, `gzip[:LEVEL]` or `zstd[:LEVEL]`.
om::layer_encoding parse_encoding(const std::string& text)
{
    const auto colon = text.find(':');
    const std::string name = text.substr(0, colon);
    std::optional<int> level;
    if (colon != std::string::npos) {
        int value = 0;
        const char* const end = text.data() + text.size();
        const auto read = std::from_chars(text.data() + colon + 1, end, value);
        level = read.ec == std::errc() && read.ptr == end ? value : -1; // no encoding has this level
    }
    for (const om::compression kind : {om::compression::none, om::compression::gzip, om::compression::zstd})
        if (name == to_string(kind))
            return om::layer_encoding(kind, level);
    throw om::error(om::errc::unsupported_compression).subject(text).detail("use none, gzip[:LEVEL] or zstd[:LEVEL]");
}

om::byte_sink open_standard_output(const asio::any_io_executor& executor)
{
    if (::isatty(STDOUT_FILENO) == 1)
        throw om::error(om::errc::not_a_regular_file).at(om::stage::target).detail("standard output is a terminal");
    struct stat status;
    om::detail::checked(::fstat(STDOUT_FILENO, &status), "stat", "standard output");
    std::signal(SIGPIPE, SIG_IGN); // a closed pipe is reported as EPIPE
    if (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode))
        return om::byte_sink(om::unique_fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)));
    // Opened again if possible: setting O_NONBLOCK on the inherited description would affect other processes that share it.
    int fd = ::open("/proc/self/fd/1", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fd = om::detail::checked(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), "dup", "standard output");
    return om::byte_sink(asio::posix::stream_descriptor(executor, fd));
}

// `TRANSPORT:PATH[:REF]`, split at its first two colons: the path need not exist yet, so it cannot tell where the name begins.
class destination
{
public:
    explicit destination(const std::string& text)
    {
        const auto colon = text.find(':');
        transport = text.substr(0, colon);
        path = colon == std::string::npos ? "" : text.substr(colon + 1);
        if (const auto cut = path.find(':'); cut != std::string::npos) {
            name = path.substr(cut + 1);
            path.resize(cut);
        }
    }
    std::string transport, path, name;
};

template <class Repository>
asio::awaitable<void> image_export(Repository repository, settings, arguments given)
{
    if (given.images.size() < 2)
        throw om::error(om::errc::image_not_found).detail("give one or more images and a destination");
    const std::string where = given.images.back();
    given.images.pop_back();
    const destination to(where);
    if (!to.name.empty() && given.images.size() != 1)
        throw om::error(om::errc::ambiguous_image).subject(where).detail("a destination with a name takes one image only");
    om::export_options options;
    options.accept_damaged(given.accept_damaged);
    if (!given.compress.empty())
        options.encoding(parse_encoding(given.compress));
    std::vector<typename Repository::image> images;
    for (const std::string& word : given.images) {
        images.push_back(repository.find_image(word));
        const om::digest& id = images.back().id();
        if (!to.name.empty())
            options.name(id, to.name);
        else if (!id.string().starts_with(word) && !id.hex().starts_with(word))
            options.name(id, repository.tag(word).name); // if the image has several tags, the given one
    }
    if (where == "-" || to.transport == "docker-archive" || to.transport == "oci-archive") {
        om::archive_output output(to.path);
        if (where == "-")
            output = open_standard_output(co_await asio::this_coro::executor);
        if ((where == "-" ? given.format : to.transport) == "docker-archive") {
            om::docker_archive_target target(std::move(output));
            co_await repository.export_images(images, std::move(target), std::move(options));
        } else {
            om::oci_archive_target target(std::move(output));
            co_await repository.export_images(images, std::move(target), std::move(options));
        }
    } else if (to.transport == "oci") {
        om::oci_layout_target target(to.path);
        co_await repository.export_images(images, std::move(target), std::move(options));
    } else {
        throw om::error(om::errc::unknown_archive_format)
            .subject(where)
            .detail("a destination is docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME], or - for "
                    "standard output");
    }
}

} // namespace

void add_export_command(command_line& to, CLI::App* images)
{
    arguments& given = to.given();
    auto* sub = to.add_command(images, "export", "Write images to an archive or a layout", {image_export, image_export});
    sub->add_option("IMAGE... DEST", given.images,
                    "docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME], or - for standard output")
        ->required()
        ->expected(2, -1);
    sub->add_option("--compress", given.compress,
                    "layers: none, gzip[:LEVEL] or zstd[:LEVEL]; by default as imported if blobs were kept, else none");
    sub->add_flag("--accept-damaged", given.accept_damaged, "export also layers that a check found damaged, if they can be read");
    sub->add_option("--format", given.format, "the archive format for -")
        ->check(CLI::IsMember({"docker-archive", "oci-archive"}))
        ->capture_default_str();
}
