// om gc and om usage: free the space of a repository, and show what uses it.
#include "om.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <iostream>

namespace {

// Parses `90`, `90s`, `15m`, `12h` or `7d`.
std::chrono::seconds seconds_of(const std::string& text)
{
    std::int64_t count = 0;
    const auto digits = text.find_first_not_of("0123456789");
    const std::string unit = digits == std::string::npos ? "s" : text.substr(digits);
    const std::int64_t factor = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
    if (factor == 0 || !CLI::detail::lexical_cast(text.substr(0, digits), count) || count > INT64_MAX / factor)
        throw CLI::ValidationError("--least-age", "not a time such as 90s, 15m, 12h or 7d: " + text);
    return std::chrono::seconds(count * factor);
}

nlohmann::ordered_json as_json(const om::collect_report& report)
{
    auto left = nlohmann::ordered_json::array();
    for (const om::uncollected& one : report.left)
        left.push_back({{"path", om::escape(one.path)}, {"why", one.why}});
    return {{"layers", report.layers},       {"diffs", report.diffs},   {"old_trees", report.old_trees},
            {"manifests", report.manifests}, {"blobs", report.blobs},   {"leases", report.leases},
            {"leftovers", report.leftovers}, {"bytes", report.bytes},   {"left", left}};
}

template <class Repository>
asio::awaitable<void> collect(Repository repository, settings set, arguments given)
{
    om::collect_options options;
    options.dry_run(given.dry_run);
    if (!given.least_age.empty())
        options.least_age(seconds_of(given.least_age));
    const om::collect_report report = co_await repository.collect(options);
    if (set.json) {
        std::cout << as_json(report).dump(2) << '\n';
    } else {
        std::cout << (given.dry_run ? "would remove: layers " : "removed: layers ") << report.layers << ", diffs " << report.diffs
                  << ", manifests " << report.manifests << ", blobs " << report.blobs << ", old trees " << report.old_trees
                  << ", leases " << report.leases << ", leftovers " << report.leftovers << "; " << readable(report.bytes) << '\n';
        for (const om::uncollected& one : report.left)
            std::cerr << "om: " << om::escape(one.path) << " stays: " << one.why << '\n';
    }
    if (!report.left.empty())
        throw reported_failure();
}

template <class Repository>
asio::awaitable<void> usage(Repository repository, settings set, arguments)
{
    const om::usage_report report = co_await repository.usage();
    const auto tags = repository.tags();
    auto images = nlohmann::ordered_json::array();
    for (const auto& image : report.images) {
        std::vector<std::string> names;
        for (const om::tag_record& tag : tags)
            if (tag.image == image.id)
                names.push_back(tag.name);
        images.push_back({{"id", image.id.string()}, {"tags", names}, {"bytes", image.bytes}, {"shared", image.shared}, {"own", image.own}});
    }
    if (set.json) {
        const nlohmann::ordered_json out{{"images", images},           {"diffs", report.diffs},       {"blobs", report.blobs},
                                         {"manifests", report.manifests}, {"unneeded", report.unneeded}, {"uppers", report.uppers},
                                         {"leftovers", report.leftovers}};
        std::cout << out.dump(2) << '\n';
        co_return;
    }
    for (const auto& image : images) {
        const std::vector<std::string> names = image["tags"];
        std::printf("%-50s %.12s  %10s, shared %10s, own %10s\n", names.empty() ? "<none>" : names.front().c_str(),
                    image["id"].template get<std::string>().c_str() + 7, readable(image["bytes"]).c_str(),
                    readable(image["shared"]).c_str(), readable(image["own"]).c_str());
    }
    const std::pair<const char*, std::uint64_t> rows[] = {
        {"diffs", report.diffs},
        {"blobs", report.blobs},
        {"manifests", report.manifests},
        {"of these, unneeded: om gc removes them", report.unneeded},
        {"written in mounts", report.uppers},
        {"in tmp/: work in progress, and what is being removed", report.leftovers}};
    for (const auto& [what, bytes] : rows)
        std::printf("%-50s %24s\n", what, readable(bytes).c_str());
}

} // namespace

void add_space_commands(command_line& to)
{
    arguments& given = to.given();
    auto* sub = to.add_command(nullptr, "gc", "Remove what no image, tag, mount or lease needs", {collect, collect});
    sub->add_flag("--dry-run", given.dry_run, "remove nothing; print what would be removed");
    sub->add_option("--least-age", given.least_age, "keep what is younger than this, such as 90s, 15m, 12h or 7d")->type_name("TIME");
    to.add_command(nullptr, "usage", "Show what uses space, and what can be freed", {usage, usage});
}
