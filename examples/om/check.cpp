// om check.
#include "om.hpp"

#include <nlohmann/json.hpp>

#include <iostream>

namespace {

// Escapes a path, which may have any bytes.
std::string printable(const std::string& path)
{
    return om::escape(path, ~std::size_t{0});
}

nlohmann::json as_json(const std::vector<om::finding>& all)
{
    auto out = nlohmann::json::array();
    for (const om::finding& one : all)
        out.push_back({{"kind", to_string(one.kind)},
                       {"object", printable(one.object)},
                       {"path", printable(one.path)},
                       {"detail", one.detail}});
    return out;
}

nlohmann::json as_json(const om::check_report& report)
{
    nlohmann::json out{{"ok", report.ok()}, {"findings", as_json(report.findings)}};
    if (!report.mended.empty())
        out["mended"] = as_json(report.mended);
    return out;
}

void print(const char* before, const std::vector<om::finding>& all)
{
    for (const om::finding& one : all)
        std::cout << before << to_string(one.kind) << ' ' << printable(one.object) << (one.path.empty() ? "" : " ")
                  << printable(one.path) << ": " << one.detail << '\n';
}

template <class Repository>
asio::awaitable<om::check_report> repair_from(Repository repository, arguments given)
{
    om::repair_options options;
    if (!given.arch.empty())
        options.wanted(om::platform::parse(given.arch));
    const location source(given.first);
    if (source.transport.ends_with("-archive") && om::is_compressed(source.path))
        throw om::error(om::errc::unknown_archive_format)
            .subject(given.first)
            .detail("the archive is compressed as a whole: decompress it first, or import it to unpack damaged layers again");
    if (source.transport == "docker-archive") {
        om::docker_archive archive(source.path, source.name);
        co_return co_await repository.repair(std::move(archive), std::move(options));
    }
    if (source.transport == "oci" || source.transport == "oci-archive") {
        om::oci_layout layout(source.path, source.name);
        co_return co_await repository.repair(std::move(layout), std::move(options));
    }
    if (given.first == "-")
        throw om::error(om::errc::unknown_archive_format)
            .subject(given.first)
            .detail("a repair cannot read a stream: name a file, or import it to unpack damaged layers again");
    throw om::error(om::errc::unknown_archive_format)
        .subject(given.first)
        .detail("a source is docker-archive:FILE[:NAME], oci:DIR[:NAME] or oci-archive:FILE[:NAME]");
}

// Without a conditional expression: GCC 12 destroys the result of a co_await in one twice.
template <class Repository>
asio::awaitable<om::check_report> check_or_repair(Repository repository, arguments given)
{
    if (!given.repair) {
        om::check_options options;
        options.contents(!given.records);
        co_return co_await repository.check(options);
    }
    if (given.first.empty())
        co_return co_await repository.repair();
    co_return co_await repair_from(std::move(repository), std::move(given));
}

template <class Repository>
asio::awaitable<void> check_all(Repository repository, settings set, arguments given)
{
    const om::check_report report = co_await check_or_repair(std::move(repository), given);
    if (set.json) {
        std::cout << as_json(report).dump(2) << '\n';
    } else {
        print("mended: ", report.mended);
        print("", report.findings);
        if (report.ok())
            std::cout << "no damage: images " << report.images << ", layers " << report.layers << ", diffs " << report.diffs
                      << ", tags " << report.tags << ", manifests " << report.manifests << ", blobs " << report.blobs
                      << (given.records ? "; diffs and blobs were not read" : "") << '\n';
    }
    if (!report.ok())
        throw reported_failure();
}

} // namespace

void add_check_command(command_line& to)
{
    auto* sub = to.add_command(nullptr, "check", "Compare the content of the repository with its digests", {check_all, check_all});
    auto* records = sub->add_flag("--records", to.given().records, "check only records and references; do not read layers and blobs");
    auto* repair = sub->add_flag("--repair", to.given().repair, "rebuild what is damaged from kept blobs and from SOURCE");
    repair->excludes(records);
    sub->add_option("SOURCE", to.given().first, "docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME]")->needs(repair);
    sub->add_option("--platform", to.given().arch, "OS/ARCHITECTURE[/VARIANT] to choose from an index that SOURCE has")->needs(repair);
}
