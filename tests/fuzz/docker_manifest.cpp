#include "fuzz.hpp"

#include <overmount/oci/manifest.hpp>

#include <nlohmann/json.hpp>

// What is taken from a docker archive's manifest.json is what a reader of the whole tree sees.
void check(std::string_view input)
{
    const auto images = overmount::parse_docker_archive_manifest(input, overmount::limits());
    const auto tree = nlohmann::json::parse(input);
    MUST(tree.size() == images.size());
    for (std::size_t i = 0; i < images.size(); ++i) {
        MUST(tree[i].at("Config") == images[i].config);
        MUST(tree[i].at("Layers") == images[i].layers ||
             (tree[i]["Layers"].is_null() && images[i].layers.empty()));
        MUST(images[i].tags.empty() || tree[i].at("RepoTags") == images[i].tags);
    }
}
