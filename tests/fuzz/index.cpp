#include "fuzz.hpp"

#include <overmount/oci/manifest.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace {

std::string text_at(const nlohmann::json& object, const char* key)
{
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? std::string() : found->get<std::string>();
}

} // namespace

// What is taken from an index is what a reader of the whole tree sees; the entry that is chosen is one of it.
void check(std::string_view input)
{
    const auto value = overmount::index::parse(std::string(input), overmount::limits());
    MUST(value.bytes() == input);
    const auto tree = nlohmann::json::parse(input);
    MUST(!tree.contains("config") && !tree.contains("layers"));
    MUST(tree.at("manifests").size() == value.entries().size());
    for (std::size_t i = 0; i < value.entries().size(); ++i) {
        const auto& entry = value.entries()[i];
        const auto& seen = tree["manifests"][i];
        MUST(seen.at("digest") == entry.digest().string());
        MUST(text_at(seen, "mediaType") == entry.media_type());
        MUST(entry.platform().has_value() == (seen.contains("platform") && !seen["platform"].is_null()));
        if (seen.contains("annotations") && seen["annotations"].is_object())
            MUST(text_at(seen["annotations"], "org.opencontainers.image.ref.name") == entry.ref_name());
    }
    const auto& chosen = value.select({"linux", "arm64", "v8"});
    MUST(&chosen >= value.entries().data() && &chosen < value.entries().data() + value.entries().size());
}
