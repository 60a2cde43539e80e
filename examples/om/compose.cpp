// om image create: an image from a config and existing layers.
#include "om.hpp"

#include <overmount/posix/fs.hpp>

#include <fcntl.h>

#include <iostream>

namespace {

// Parses `NAME=VALUE`.
std::pair<std::string, std::string> parse_pair(const std::string& text)
{
    const auto cut = text.find('=');
    if (cut == std::string::npos)
        throw om::error(om::errc::invalid_config).subject(text).detail("write NAME=VALUE");
    return {text.substr(0, cut), text.substr(cut + 1)};
}

om::image_config read_config(const std::string& file, const om::limits& bounds)
{
    const std::string name = file == "-" ? "/proc/self/fd/0" : file;
    auto text = om::detail::read_file(AT_FDCWD, name, bounds.json_bytes);
    if (!text)
        throw om::error::from_errno(ENOENT).operation("open").subject(file);
    return om::image_config::parse(std::move(*text), bounds);
}

bool edits(const arguments& given)
{
    return !(given.environment.empty() && given.entrypoint.empty() && given.command.empty() && given.labels.empty() &&
             given.ports.empty() && given.working_directory.empty() && given.user.empty());
}

om::image_config edited(om::image_config_edit edit, const arguments& given, const om::limits& bounds)
{
    for (const std::string& one : given.environment) {
        const auto [name, value] = parse_pair(one);
        edit.set_environment(name, value);
    }
    for (const std::string& one : given.labels) {
        auto [name, value] = parse_pair(one);
        edit.label(std::move(name), std::move(value));
    }
    for (const std::string& port : given.ports)
        edit.expose(port);
    if (!given.entrypoint.empty())
        edit.entrypoint(given.entrypoint);
    if (!given.command.empty())
        edit.command(given.command);
    if (!given.working_directory.empty())
        edit.working_directory(given.working_directory);
    if (!given.user.empty())
        edit.user(given.user);
    return edit.build(bounds);
}

template <class Repository>
asio::awaitable<void> image_create(Repository repository, settings, arguments given)
{
    const om::limits& bounds = repository.bounds();
    om::image_config_edit start(given.arch.empty() ? om::platform::host() : om::platform::parse(given.arch));
    om::image_config config = start.build(bounds);
    if (!given.config.empty())
        config = read_config(given.config, bounds);
    else if (!given.from.empty())
        config = repository.find_image(given.from).config();
    if (edits(given))
        config = edited(om::image_config_edit(config), given, bounds);
    std::optional<om::chain_id> top;
    if (!given.first.empty())
        top = repository.find_layer(given.first);
    om::import_options options;
    for (const std::string& tag : given.tags)
        options.tag(tag);
    const auto made = co_await repository.create_image(std::move(config), std::move(top), std::move(options));
    std::cout << made.id().string() << '\n';
}

} // namespace

void add_compose_command(command_line& to, CLI::App* images)
{
    arguments& given = to.given();
    auto* sub = to.add_command(images, "create", "Make an image from a config and existing layers; prints its ID",
                        {image_create, image_create});
    sub->add_option("CHAIN-ID", given.first, "the topmost layer; by default the config names the layers");
    auto* config = sub->add_option("--config", given.config, "a config file, or - for standard input; by default a new config");
    auto* from = sub->add_option("--from", given.from, "take the config of this image")->excludes(config);
    sub->add_option("--platform", given.arch, "OS/ARCHITECTURE[/VARIANT] of a new config")->excludes(config)->excludes(from);
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
    const auto add_list = [sub](const char* name, std::vector<std::string>& into, const char* help) {
        sub->add_option(name, into, help)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    };
    add_list("--env", given.environment, "NAME=VALUE; may be given more than once, as may the options below");
    add_list("--label", given.labels, "NAME=VALUE");
    add_list("--expose", given.ports, "PORT[/PROTOCOL]");
    add_list("--entrypoint", given.entrypoint, "one word of the entrypoint");
    add_list("--cmd", given.command, "one word of the command");
    sub->add_option("--workdir", given.working_directory, "the directory that the command starts in");
    sub->add_option("--user", given.user, "USER[:GROUP]");
}
