// om: the command line tool. Each command is one function, a small program on the library.
#include "om.hpp"

#include <overmount/posix/fs.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

asio::posix::stream_descriptor open_stream(const std::string& name, const asio::any_io_executor& executor)
{
    // Opened again if possible: making the inherited description non-blocking would affect other processes that share it.
    int fd = ::open(name == "-" ? "/proc/self/fd/0" : name.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && name == "-")
        fd = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        throw om::error::from_errno(errno).at(om::stage::source).operation("open").subject(name);
    return {executor, fd};
}

void write_out(int fd, const std::string& name, std::span<const std::byte> bytes)
{
    while (!bytes.empty()) {
        const ssize_t count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EAGAIN) { // another process made it non-blocking
            pollfd ready{fd, POLLOUT, 0};
            ::poll(&ready, 1, -1);
        } else if (count < 0 && errno != EINTR) {
            throw om::error::from_errno(errno).operation("write").subject(name);
        } else if (count > 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(count));
        }
    }
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

void warn(const om::error& damaged)
{
    std::cerr << "om: " << damaged.what() << '\n';
}

namespace {

// Without an option, an existing repository says what it keeps.
bool keeps_tars(const settings& set)
{
    if (set.as_tars || !set.storage.empty())
        return set.as_tars || set.storage == "virtual";
    const auto header = om::detail::read_file(AT_FDCWD, set.directory + "/repository.json", 1 << 20);
    const auto known = nlohmann::json::parse(header.value_or(""), nullptr, false);
    return known.is_object() && known.contains("forms") &&
           known["forms"] == nlohmann::json::array({om::virtual_storage::form()});
}

template <class Repository>
asio::awaitable<void> run_in(asio::awaitable<void> (*what)(Repository, settings, arguments), settings set,
                             arguments given)
{
    om::repository_options options;
    options.sync(set.durability == "none"   ? om::durability::none
                 : set.durability == "full" ? om::durability::full
                                            : om::durability::batch);
    if (set.owner)
        options.owner(*set.owner);
    auto repository = co_await Repository::open(set.directory, std::move(options));
    co_await what(std::move(repository), std::move(set), std::move(given));
}

asio::awaitable<void> run(const command& what, const settings& set, const arguments& given)
{
    if (what.alone != nullptr)
        return what.alone(set, given);
    if (keeps_tars(set))
        return run_in(what.on_tars, set, given);
    return run_in(what.on_disk, set, given);
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
    CLI::App app("Imports container images into a repository of layers, and mounts them", "om");
    settings set;
    set.directory = default_directory();
    arguments given;
    command chosen;
    app.add_option("--repo", set.directory, "directory of the repository ($OVERMOUNT_REPO)")->capture_default_str();
    app.add_option("--repo-owner", set.owner, "user ID that the repository belongs to, if not the caller's")
        ->type_name("UID")
        ->envname("OVERMOUNT_REPO_OWNER");
    app.add_option("--storage", set.storage,
                   "how a new repository stores layers: on-disk (mountable directories) or virtual (tars)")
        ->check(CLI::IsMember({"on-disk", "virtual"}))
        ->envname("OVERMOUNT_STORAGE");
    app.add_flag("--virtual", set.as_tars, "short for --storage virtual");
    app.add_option("--durability", set.durability, "what survives a power cut: none, batch (each finished import), full")
        ->check(CLI::IsMember({"none", "batch", "full"}))
        ->type_name("HOW")
        ->capture_default_str();
    app.add_flag("--quiet,-q", set.quiet, "no progress on a terminal");
    app.add_flag("--json", set.json, "output as JSON");
    app.set_version_flag("--version", "om " OVERMOUNT_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    command_line commands(app, given, chosen);
    add_image_commands(commands);
    add_layer_commands(commands);
    add_tag_commands(commands);
    add_check_command(commands);
    add_space_commands(commands);

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& problem) {
        return app.exit(problem) == 0 ? 0 : 2;
    }
    std::signal(SIGPIPE, SIG_IGN); // a closed pipe is reported as EPIPE
    try {
        std::exception_ptr failure;
        asio::io_context context(1);
        asio::co_spawn(context, run(chosen, set, given), [&failure](std::exception_ptr ended) { failure = ended; });
        context.run();
        int status = 0;
        try {
            if (failure)
                std::rethrow_exception(failure);
        } catch (const reported_failure&) {
            status = 1;
        }
        if (!std::cout.flush() || std::fflush(stdout) != 0)
            throw om::error::from_errno(errno != 0 ? errno : EIO).operation("write").subject("standard output");
        return status;
    } catch (const std::exception& problem) {
        std::cerr << "om: " << problem.what() << '\n';
        return 1;
    }
}
