// om image create: an image of a config and of layers that are there.
#include "om.hpp"

#include <fcntl.h>

#include <iostream>

namespace {

// `NAME=VALUE`.
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

void add_compose_command(words& to, CLI::App* images)
{
    arguments& given = to.given();
    auto* sub = to.verb(images, "create", "Make an image of a config and of layers that are there; prints its ID",
                        {image_create, image_create});
    sub->add_option("CHAIN-ID", given.first, "the topmost layer; else the layers that the config names");
    auto* config = sub->add_option("--config", given.config, "the config, a file or - (else a new one)");
    auto* from = sub->add_option("--from", given.from, "an image whose config it is")->excludes(config);
    sub->add_option("--platform", given.arch, "OS/ARCHITECTURE[/VARIANT] of a new one")->excludes(config)->excludes(from);
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
    const auto words_of = [sub](const char* name, std::vector<std::string>& into, const char* help) {
        sub->add_option(name, into, help)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    };
    words_of("--env", given.environment, "NAME=VALUE; may be given more than once, as may those below");
    words_of("--label", given.labels, "NAME=VALUE");
    words_of("--expose", given.ports, "PORT[/PROTOCOL]");
    words_of("--entrypoint", given.entrypoint, "a word of it");
    words_of("--cmd", given.command, "a word of it");
    sub->add_option("--workdir", given.working_directory, "the directory to start in");
    sub->add_option("--user", given.user, "USER[:GROUP]");
}
