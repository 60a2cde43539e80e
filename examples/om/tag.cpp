// om tag: add, print, list and remove the tags of images.
#include "om.hpp"

#include <nlohmann/json.hpp>

#include <iostream>

namespace {

template <class Repository>
asio::awaitable<void> tag_add(Repository repository, settings, arguments given)
{
    co_await repository.add_tag(given.first, repository.find_image(given.second).id());
}

template <class Repository>
asio::awaitable<void> tag_get(Repository repository, settings, arguments given)
{
    std::cout << repository.tag(given.first).image.string() << '\n';
    co_return;
}

template <class Repository>
asio::awaitable<void> tag_list(Repository repository, settings set, arguments)
{
    auto out = nlohmann::json::array();
    for (const om::tag_record& tag : repository.tags(warn))
        out.push_back({{"name", tag.name}, {"image", tag.image.string()}});
    if (set.json)
        std::cout << out.dump(2) << '\n';
    else
        for (const auto& tag : out)
            std::cout << tag["name"].get<std::string>() << "  " << tag["image"].get<std::string>() << '\n';
    co_return;
}

template <class Repository>
asio::awaitable<void> tag_remove(Repository repository, settings, arguments given)
{
    co_await repository.remove_tag(given.first);
}

} // namespace

void add_tag_commands(command_line& to)
{
    arguments& given = to.given();
    CLI::App* tags = to.add_group("tag", "Add, print, list and remove tags");
    auto* sub = to.add_command(tags, "add", "Add a tag to an image", {tag_add, tag_add});
    sub->add_option("NAME", given.first)->required();
    sub->add_option("IMAGE", given.second)->required();
    sub = to.add_command(tags, "get", "Print the ID of the image that a tag names", {tag_get, tag_get});
    sub->add_option("NAME", given.first)->required();
    to.add_command(tags, "list", "List the tags", {tag_list, tag_list});
    sub = to.add_command(tags, "remove", "Remove a tag", {tag_remove, tag_remove});
    sub->add_option("NAME", given.first)->required();
}
