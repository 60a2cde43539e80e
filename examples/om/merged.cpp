// om image files, cat, diff, flatten, squash: the merged view of layers, without mounting them.
#include "om.hpp"

#include <nlohmann/json.hpp>

#include <iostream>

namespace {

constexpr std::size_t whole = ~std::size_t{0}; // do not cut long paths

// The topmost layer of an image, or the layer of that name.
template <class Repository>
std::optional<om::chain_id> top_of(const Repository& repository, const std::string& name)
{
    try {
        return repository.find_image(name).top();
    } catch (const om::error& failure) {
        if (failure.code() != om::errc::image_not_found)
            throw;
        try {
            return repository.find_layer(name);
        } catch (const om::error& none) {
            if (none.code() != om::errc::layer_not_found)
                throw;
        }
        throw;
    }
}

const char* word_of(om::change_kind kind)
{
    return kind == om::change_kind::added ? "added" : kind == om::change_kind::changed ? "changed" : "removed";
}

char letter_of(om::tar::entry_type type)
{
    using om::tar::entry_type;
    switch (type) {
    case entry_type::symbolic_link: return 'l';
    case entry_type::character_device: return 'c';
    case entry_type::block_device: return 'b';
    case entry_type::directory: return 'd';
    case entry_type::fifo: return 'p';
    default: return 'f';
    }
}

template <class Repository>
asio::awaitable<void> image_files(Repository repository, settings set, arguments given)
{
    auto list = std::make_shared<entry_list>(set.json);
    auto visitor = [list](const om::tar::entry& entry, const typename Repository::layer_type& from) { list->add(entry, &from.id()); };
    const auto image = repository.find_image(given.first);
    co_await image.files(std::move(visitor));
    list->finish();
}

template <class Repository>
asio::awaitable<void> image_cat(Repository repository, settings, arguments given)
{
    const auto image = repository.find_image(given.first);
    auto file = co_await image.open(given.second);
    co_await copy_stream(std::move(file), STDOUT_FILENO, "standard output");
}

template <class Repository>
asio::awaitable<void> image_diff(Repository repository, settings set, arguments given)
{
    auto from = top_of(repository, given.first), to = top_of(repository, given.second);
    const auto changes = co_await repository.diff(std::move(from), std::move(to));
    auto out = nlohmann::json::array();
    for (const om::change& one : changes) {
        if (set.json)
            out.push_back({{"kind", word_of(one.kind)},
                           {"path", om::escape("/" + one.path, whole)},
                           {"type", std::string(1, letter_of(one.type))}});
        else
            std::cout << (one.kind == om::change_kind::removed ? 'D' : one.kind == om::change_kind::added ? 'A' : 'C')
                      << " /" << om::escape(one.path, whole) << '\n';
    }
    if (set.json)
        std::cout << out.dump(2) << '\n';
}

template <class Repository>
asio::awaitable<void> image_flatten(Repository repository, settings, arguments given)
{
    auto top = top_of(repository, given.first);
    auto tar = co_await repository.flatten(std::move(top));
    co_await write_stream(std::move(tar), given.second);
}

template <class Repository>
asio::awaitable<void> image_squash(Repository repository, settings, arguments given)
{
    om::import_options options;
    for (const std::string& tag : given.tags)
        options.tag(tag);
    const auto image = repository.find_image(given.first);
    const auto made = co_await repository.squash(image, std::move(options));
    std::cout << made.id().string() << '\n';
}

} // namespace

void add_merged_commands(command_line& to, CLI::App* images)
{
    arguments& given = to.given();
    constexpr const char* what = "an image or a chain ID";
    constexpr const char* which = "a tag, an ID, or the first digits of an ID";
    auto* sub = to.add_command(images, "files", "List an image's files, without mounting it", {image_files, image_files});
    sub->add_option("IMAGE", given.first, which)->required();
    sub = to.add_command(images, "cat", "Print a file of an image; links are followed inside the image", {image_cat, image_cat});
    sub->add_option("IMAGE", given.first, which)->required();
    sub->add_option("PATH", given.second, "the file's path in the image")->required();
    sub = to.add_command(images, "diff", "List the differences: A added, C changed, D deleted", {image_diff, image_diff});
    sub->add_option("FROM", given.first, what)->required();
    sub->add_option("TO", given.second, what)->required();
    sub = to.add_command(images, "flatten", "Write an image's files as one tar", {image_flatten, image_flatten});
    sub->add_option("IMAGE", given.first, what)->required();
    sub->add_option("DEST", given.second, "a file, or - for standard output")->required();
    sub = to.add_command(images, "squash", "Make an image with the same files in one layer; prints its ID",
                  {image_squash, image_squash});
    sub->add_option("IMAGE", given.first)->required();
    sub->add_option("--tag,-t", given.tags, "a name for the image; may be given more than once");
}
