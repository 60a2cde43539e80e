#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_HOSTS_TOML_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_HOSTS_TOML_IPP

#include <overmount/registry/settings/hosts_toml.hpp>

#include <overmount/registry/settings/toml.hpp>

#include <charconv>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// The root of the API on a host. Without a scheme it is https.
inline url hosts_root(std::string text, bool override_path)
{
    if (text.find("://") == std::string::npos)
        text.insert(0, "https://");
    const url parsed = url::parse(text);
    std::string path = parsed.target();
    if (path.find('?') != std::string::npos)
        throw error(errc::invalid_settings);
    while (path.ends_with('/'))
        path.pop_back();
    if (!override_path && !path.ends_with("/v2"))
        path += "/v2";
    return parsed.with_target(path.empty() ? "/" : path);
}

// A duration of Go: numbers with units, such as `1m30s` or `1.5s`. nullopt if it is not one, or longer than an hour.
inline std::optional<std::chrono::milliseconds> hosts_duration(std::string_view text)
{
    constexpr std::pair<std::string_view, double> units[] = {
        {"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}};
    double total = 0;
    for (bool first = true; first || !text.empty(); first = false) {
        const auto digits = std::min(text.find_first_not_of("0123456789."), text.size());
        const auto end = std::min(text.find_first_of("0123456789.", digits), text.size());
        double number = 0;
        const auto [stop, failure] = std::from_chars(text.data(), text.data() + digits, number, std::chars_format::fixed);
        if (digits == 0 || failure != std::errc() || stop != text.data() + digits)
            return std::nullopt;
        const auto* const unit = std::find_if(std::begin(units), std::end(units), [&](const auto& each) {
            return each.first == text.substr(digits, end - digits);
        });
        if (unit == std::end(units))
            return std::nullopt;
        total += number * unit->second;
        if (!(total <= 3600e3))
            return std::nullopt;
        text.remove_prefix(end);
    }
    return std::chrono::milliseconds(static_cast<std::int64_t>(total));
}

inline std::string hosts_path(const std::string& directory, const std::string& path)
{
    return path.starts_with('/') || directory.empty() ? path : directory + "/" + path;
}

inline std::vector<client_certificate> hosts_clients(const toml_members& members, const std::string& directory)
{
    std::vector<client_certificate> out;
    const toml_node* node = members.get("client");
    if (node == nullptr || node->kind == toml_node::form::text) {
        for (const std::string& path : members.text_or_texts("client"))
            out.emplace_back(hosts_path(directory, path), "");
        return out;
    }
    const std::string why = "`client` must be a path, a list of paths, or a list of pairs of them";
    for (const toml_node& each : members.list("client", "paths or pairs of paths")->children) {
        const auto* const pair = each.kind == toml_node::form::list ? &each.children : nullptr;
        if (pair != nullptr && pair->size() != 2)
            throw members.refuse(each, why);
        const std::string certificate = members.text_of(pair != nullptr ? (*pair)[0] : each, why);
        const std::string key = pair != nullptr ? members.text_of((*pair)[1], why) : "";
        out.emplace_back(hosts_path(directory, certificate), key.empty() ? key : hosts_path(directory, key));
    }
    return out;
}

inline std::vector<std::pair<std::string, secret>> hosts_headers(const toml_members& members, std::string_view file)
{
    std::vector<std::pair<std::string, secret>> out;
    const toml_node* table = members.table("header");
    if (table == nullptr)
        return out;
    const toml_members headers(*table, file);
    for (const auto& [name, index] : table->keys) {
        const toml_node& node = table->children[index];
        // See RFC 9110, section 5.6.2, token.
        constexpr const char* allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
        if (name.empty() || name.find_first_not_of(allowed) != std::string::npos)
            throw headers.refuse(node, "the name of a header is not valid");
        const std::string why = "a header must be a string or a list of strings";
        if (node.kind == toml_node::form::list)
            for (const toml_node& each : node.children)
                out.emplace_back(name, headers.text_of(each, why));
        else
            out.emplace_back(name, headers.text_of(node, why));
    }
    return out;
}

inline void hosts_capabilities(const toml_members& members, hosts_toml_host& out)
{
    const auto given = members.texts("capabilities");
    if (!given || given->empty())
        return;
    out.pull = out.resolve = out.push = false;
    for (const std::string& each : *given) {
        if (each == "pull")
            out.pull = true;
        else if (each == "resolve")
            out.resolve = true;
        else if (each == "push")
            out.push = true;
        else
            throw members.refuse("capabilities", "`capabilities` are `pull`, `resolve` and `push`");
    }
}

// The settings of a host. `where` is its URL, and `at` the node for errors about it.
inline hosts_toml_host hosts_host(const toml_node& table, std::string_view file, const std::string& where, const toml_node& at)
{
    const toml_members members(table, file);
    const std::string directory(file.substr(0, file.rfind('/') == std::string_view::npos ? 0 : file.rfind('/')));
    hosts_toml_host out;
    const bool override_path = members.flag("override_path").value_or(false);
    try {
        if (!where.empty())
            out.root = hosts_root(where, override_path);
    } catch (const error&) {
        throw members.refuse(at, "the host must be a URL with http or https, and without user and query");
    }
    hosts_capabilities(members, out);
    out.skip_verify = members.flag("skip_verify").value_or(false);
    for (const std::string& path : members.text_or_texts("ca"))
        out.certificates.authorities.push_back(hosts_path(directory, path));
    out.certificates.clients = hosts_clients(members, directory);
    out.headers = hosts_headers(members, file);
    if (const std::string timeout = members.text("dial_timeout"); !timeout.empty()) {
        out.dial_timeout = hosts_duration(timeout);
        if (!out.dial_timeout)
            throw members.refuse("dial_timeout", "`dial_timeout` must be a duration such as `3s`, at most an hour");
    }
    return out;
}

} // namespace detail

OVERMOUNT_DECL hosts_toml hosts_toml::parse(std::string_view text, std::string_view file_name)
{
    const detail::toml_node table = detail::parse_toml(text, file_name);
    const detail::toml_members members(table, file_name);
    hosts_toml out;
    const detail::toml_node* server = members.get("server");
    out.server_ = detail::hosts_host(table, file_name, members.text("server"), server != nullptr ? *server : table);
    const detail::toml_node* hosts = members.table("host");
    if (hosts == nullptr)
        return out;
    std::vector<std::string> urls(hosts->children.size()); // in the order of the file
    for (const auto& [key, index] : hosts->keys)
        urls[index] = key;
    for (std::size_t i = 0; i < urls.size(); ++i) {
        const detail::toml_node& node = hosts->children[i];
        const detail::toml_node& its = members.table_of(node, "`host` must be a table of tables: [host.\"https://mirror\"]");
        if (urls[i].empty())
            throw members.refuse(node, "the host has no URL");
        out.hosts_.push_back(detail::hosts_host(its, file_name, urls[i], node));
    }
    return out;
}

OVERMOUNT_DECL std::vector<std::string> hosts_directories(const std::string& domain)
{
    std::vector<std::string> out;
    const auto colon = domain.rfind(':');
    if (colon != std::string::npos && !domain.ends_with(']'))
        out.push_back(domain.substr(0, colon) + "_" + domain.substr(colon + 1) + "_");
    out.insert(out.end(), {domain, "_default"});
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
