#include "fuzz.hpp"

#include <overmount/oci/manifest.hpp>

#include <nlohmann/json.hpp>

// What is taken from a manifest is what a reader of the whole tree sees, and it is no index.
void check(std::string_view input)
{
    const overmount::limits bounds;
    const auto value = overmount::manifest::parse(std::string(input), bounds);
    MUST(value.bytes() == input);
    const auto tree = nlohmann::json::parse(input);
    MUST(tree.at("schemaVersion") == 2);
    MUST(!tree.contains("manifests"));
    MUST(tree.at("config").at("digest") == value.config().digest().string());
    MUST(tree.at("config").at("size") == value.config().size());
    MUST(tree.at("layers").size() == value.layers().size());
    for (std::size_t i = 0; i < value.layers().size(); ++i) {
        const auto& blob = value.layers()[i].blob;
        MUST(tree["layers"][i].at("digest") == blob.digest().string());
        MUST(tree["layers"][i].at("size") == blob.size());
        MUST(tree["layers"][i].at("mediaType") == blob.media_type());
    }
    try {
        static_cast<void>(overmount::index::parse(std::string(input), bounds));
    } catch (const overmount::error&) {
        return;
    }
    MUST(!"a manifest is an index as well");
}
