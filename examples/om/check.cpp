// om check.
#include "om.hpp"

#include <nlohmann/json.hpp>

#include <iostream>

namespace {

// A path is any bytes.
std::string printable(const std::string& path)
{
    return om::escape(path, ~std::size_t{0});
}

nlohmann::json as_json(const om::check_report& report)
{
    auto findings = nlohmann::json::array();
    for (const om::finding& one : report.findings)
        findings.push_back({{"kind", to_string(one.kind)},
                            {"object", printable(one.object)},
                            {"path", printable(one.path)},
                            {"detail", one.detail}});
    return {{"ok", report.ok()}, {"findings", findings}};
}

template <class Repository>
asio::awaitable<void> check_all(Repository repository, settings set, arguments given)
{
    om::check_options options;
    options.contents(!given.records);
    const om::check_report report = co_await repository.check(options);
    if (set.json) {
        std::cout << as_json(report).dump(2) << '\n';
    } else {
        for (const om::finding& one : report.findings)
            std::cout << to_string(one.kind) << ' ' << printable(one.object) << (one.path.empty() ? "" : " ")
                      << printable(one.path) << ": " << one.detail << '\n';
        if (report.ok())
            std::cout << "whole: images " << report.images << ", layers " << report.layers << ", diffs " << report.diffs
                      << ", tags " << report.tags << ", manifests " << report.manifests << ", blobs " << report.blobs
                      << (given.records ? "; diffs and blobs were not read" : "") << '\n';
    }
    if (!report.ok())
        throw said_failure();
}

} // namespace

void add_check_command(words& to)
{
    auto* sub = to.verb(nullptr, "check", "Compare what the repository keeps with its digests", {check_all, check_all});
    sub->add_flag("--records", to.given().records, "read no layers and blobs, only what refers to them");
}
