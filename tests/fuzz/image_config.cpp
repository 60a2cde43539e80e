#include "fuzz.hpp"

#include <overmount/oci/image_config.hpp>

#include <nlohmann/json.hpp>

// What is taken from a config is what a reader of the whole tree sees.
void check(std::string_view input)
{
    const auto value = overmount::image_config::parse(std::string(input), overmount::limits());
    MUST(value.bytes() == input);
    MUST(value.id() == overmount::digest::of(input));
    const auto tree = nlohmann::json::parse(input);
    const auto& diffs = tree.at("rootfs").at("diff_ids");
    MUST(diffs.size() == value.diff_ids().size());
    for (std::size_t i = 0; i < value.diff_ids().size(); ++i)
        MUST(diffs[i] == value.diff_ids()[i].string());
    if (const auto found = tree.find("config"); found != tree.end() && found->is_object()) {
        MUST(value.environment().empty() || found->at("Env") == value.environment());
        MUST(value.command().empty() || found->at("Cmd") == value.command());
        MUST(value.user().empty() || found->at("User") == value.user());
    } else {
        MUST(value.environment().empty() && value.command().empty() && value.user().empty());
    }
    if (!value.history().empty())
        MUST(tree.at("history").size() == value.history().size());
}
