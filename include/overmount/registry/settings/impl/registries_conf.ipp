#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_REGISTRIES_CONF_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_REGISTRIES_CONF_IPP

#include <overmount/registry/settings/registries_conf.hpp>

#include <overmount/registry/settings/toml.hpp>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// `text` without tag and digest.
inline std::string_view conf_name(std::string_view text)
{
    text = text.substr(0, text.find('@'));
    const auto slash = text.rfind('/');
    const auto colon = text.rfind(':');
    return slash != std::string_view::npos && colon != std::string_view::npos && colon > slash ? text.substr(0, colon) : text;
}

// Whether `text` is `host[:port][/path[:tag|@digest]]`. The host must be recognisable: `registry/a` is in docker.io.
inline bool is_conf_location(const std::string& text)
{
    try {
        const auto slash = text.find('/');
        const std::string host = text.substr(0, slash);
        if (slash != std::string::npos)
            (void)reference::parse("localhost" + text.substr(slash));
        return host.find('@') == std::string::npos && reference::parse(host + "/x/y").path() == "x/y";
    } catch (const error&) {
        return false;
    }
}

// A location or a prefix without the slashes at its end.
inline std::string conf_place(const toml_members& members, const std::string& key)
{
    std::string out = members.text(key);
    while (out.ends_with('/'))
        out.pop_back();
    return out;
}

inline std::string conf_location(const toml_members& members)
{
    std::string out = conf_place(members, "location");
    if (!out.empty() && !is_conf_location(out))
        throw members.refuse("location", "`location` must be HOST[:PORT][/PATH], without a scheme");
    return out;
}

inline pull_from_mirror conf_pull_from_mirror(const toml_members& members)
{
    const std::string text = members.text("pull-from-mirror");
    if (text == "digest-only")
        return pull_from_mirror::digest_only;
    if (text == "tag-only")
        return pull_from_mirror::tag_only;
    if (!text.empty() && text != "all")
        throw members.refuse("pull-from-mirror", "`pull-from-mirror` must be `all`, `digest-only` or `tag-only`");
    return pull_from_mirror::all;
}

inline void require_conf_prefix(const toml_members& members, const registry_entry& entry)
{
    const bool wildcard = entry.prefix.starts_with("*.");
    if (entry.prefix.empty())
        throw members.refuse("prefix", "a registry needs a `prefix` or a `location`");
    if (entry.prefix.find('*', wildcard ? 1 : 0) != std::string::npos ||
        (wildcard && entry.prefix.find_first_of("/@:") != std::string::npos))
        throw members.refuse("prefix", "a `*` is allowed only in the form `*.example.com`");
    if (!wildcard && entry.location.empty())
        throw members.refuse("prefix", "the registry has no `location`");
    if (!wildcard && entry.prefix.find("://") != std::string::npos)
        throw members.refuse("prefix", "`prefix` must not have a scheme");
    // Only names are rewritten. A tag or a digest of the prefix may be repeated in the location.
    const auto tail = [](std::string_view text) { return text.substr(conf_name(text).size()); };
    for (std::size_t i = 0; i <= entry.mirrors.size(); ++i) {
        const std::string& location = i == 0 ? entry.location : entry.mirrors[i - 1].location;
        if (!tail(location).empty() && tail(location) != tail(entry.prefix))
            throw members.refuse("location", "the tag or digest of a `location` must be that of the `prefix`");
    }
}

inline registry_entry conf_entry(const toml_node& table, std::string_view file)
{
    const toml_members members(table, file);
    registry_entry out;
    out.location = conf_location(members);
    out.prefix = conf_place(members, "prefix");
    if (out.prefix.empty())
        out.prefix = out.location;
    out.insecure = members.flag("insecure").value_or(false);
    out.blocked = members.flag("blocked").value_or(false);
    out.mirror_by_digest_only = members.flag("mirror-by-digest-only").value_or(false);
    if (!members.text("pull-from-mirror").empty())
        throw members.refuse("pull-from-mirror", "`pull-from-mirror` is for a mirror");
    if (const toml_node* mirrors = members.list("mirror", "tables"))
        for (const toml_node& node : mirrors->children) {
            const toml_members its(members.table_of(node, "`mirror` must be a list of tables"), file);
            registry_mirror mirror;
            mirror.location = conf_location(its);
            if (mirror.location.empty())
                throw members.refuse(node, "the mirror has no `location`");
            mirror.insecure = its.flag("insecure").value_or(false);
            mirror.pull = conf_pull_from_mirror(its);
            if (out.mirror_by_digest_only && !its.text("pull-from-mirror").empty())
                throw members.refuse(node, "`pull-from-mirror` and `mirror-by-digest-only` exclude each other");
            out.mirrors.push_back(std::move(mirror));
        }
    require_conf_prefix(members, out);
    return out;
}

inline short_name_mode conf_short_name_mode(const toml_members& members, const std::string& text)
{
    if (text == "disabled")
        return short_name_mode::disabled;
    if (text == "enforcing")
        return short_name_mode::enforcing;
    if (text != "permissive")
        throw members.refuse("short-name-mode", "`short-name-mode` must be `permissive`, `enforcing` or `disabled`");
    return short_name_mode::permissive;
}

// Full names have a domain, short ones have none.
inline bool is_conf_alias(const std::string& text, bool full)
{
    return conf_name(text) == text && is_conf_location(full ? text : "localhost/" + text) &&
           (full ? text.find('/') != std::string::npos : !is_conf_location(text));
}

} // namespace detail

OVERMOUNT_DECL registries_conf registries_conf::parse(std::string_view text, std::string_view file_name)
{
    const detail::toml_node table = detail::parse_toml(text, file_name);
    const detail::toml_members members(table, file_name);
    if (members.get("registries") != nullptr)
        throw members.refuse("registries", "version 1 of registries.conf is not supported: write [[registry]] tables, and "
                                           "`unqualified-search-registries` for [registries.search]");
    registries_conf out;
    std::size_t count = 0;
    std::map<std::string, const registry_entry*> by_location;
    if (const detail::toml_node* registries = members.list("registry", "tables"))
        for (const detail::toml_node& node : registries->children) {
            const detail::toml_node& its = members.table_of(node, "`registry` must be a list of tables");
            registry_entry entry = detail::conf_entry(its, file_name);
            count += 1 + entry.mirrors.size();
            if (count > detail::max_settings_entries)
                throw members.refuse(node, "more than 10000 registries and mirrors");
            const std::string where = entry.location.empty() ? entry.prefix : entry.location;
            const auto [other, is_new] = by_location.try_emplace(where, nullptr);
            if (!is_new && (other->second->insecure != entry.insecure || other->second->blocked != entry.blocked))
                throw members.refuse(node, "`insecure` or `blocked` contradicts an earlier registry with the same location");
            const auto kept = out.entries_.try_emplace(entry.prefix, std::move(entry)).first;
            if (is_new)
                other->second = &kept->second;
        }
    out.search_ = members.texts("unqualified-search-registries");
    if (out.search_)
        for (const std::string& host : *out.search_)
            if (host.find('/') != std::string::npos || !detail::is_conf_location(host))
                throw members.refuse("unqualified-search-registries",
                                     "`unqualified-search-registries` must be a list of HOST[:PORT]");
    out.helpers_ = members.texts("credential-helpers");
    if (const std::string mode = members.text("short-name-mode"); !mode.empty())
        out.mode_ = detail::conf_short_name_mode(members, mode);
    if (const detail::toml_node* aliases = members.table("aliases"))
        for (const auto& [name, index] : aliases->keys) {
            const detail::toml_node& node = aliases->children[index];
            std::string value = members.text_of(node, "an alias must be a string");
            if (!detail::is_conf_alias(name, false) || (!value.empty() && !detail::is_conf_alias(value, true)))
                throw members.refuse(node, "an alias maps a short name to one with a domain; neither has a tag or digest");
            out.aliases_.emplace(name, std::move(value));
        }
    return out;
}

OVERMOUNT_DECL void registries_conf::merge(const registries_conf& drop_in)
{
    for (const auto& [prefix, entry] : drop_in.entries_)
        entries_.insert_or_assign(prefix, entry);
    for (const auto& [name, value] : drop_in.aliases_)
        aliases_.insert_or_assign(name, value);
    if (drop_in.search_)
        search_ = drop_in.search_;
    if (drop_in.helpers_)
        helpers_ = drop_in.helpers_;
    if (drop_in.mode_)
        mode_ = drop_in.mode_;
    if (entries_.size() > detail::max_settings_entries || aliases_.size() > detail::max_settings_entries)
        throw detail::settings_error("registries.conf.d", 0, "more than 10000 entries in all files");
}

OVERMOUNT_DECL const registry_entry* registries_conf::find(const reference& image) const
{
    // All prefixes that match, from the longest to the shortest.
    const std::string name = image.domain() + "/" + image.path();
    const std::string tag = image.tag() ? ":" + *image.tag() : "";
    const std::string digest = image.digest() ? "@" + image.digest()->string() : "";
    std::vector<std::string> prefixes = {name + tag + digest, name + digest, name + tag};
    for (std::size_t end = name.size(); end != std::string::npos; end = end > 0 ? name.rfind('/', end - 1) : std::string::npos)
        prefixes.push_back(name.substr(0, end));
    const std::string host = image.domain().substr(0, image.domain().find(':'));
    for (std::size_t dot = host.find('.'); dot != std::string::npos; dot = host.find('.', dot + 1))
        prefixes.push_back("*" + host.substr(dot));
    for (const std::string& prefix : prefixes)
        if (const auto found = entries_.find(prefix); found != entries_.end())
            return &found->second;
    return nullptr;
}

OVERMOUNT_DECL std::optional<std::string> registries_conf::alias(const std::string& name) const
{
    const auto found = aliases_.find(name);
    return found != aliases_.end() && !found->second.empty() ? std::optional(found->second) : std::nullopt;
}

OVERMOUNT_DECL std::vector<std::string> registries_conf::unqualified_search_registries() const
{
    return search_.value_or(std::vector<std::string>());
}

OVERMOUNT_DECL registry::short_name_mode registries_conf::short_name_mode() const
{
    return mode_.value_or(registry::short_name_mode::permissive);
}

OVERMOUNT_DECL std::vector<std::string> registries_conf::credential_helpers() const
{
    return helpers_ && !helpers_->empty() ? *helpers_ : std::vector<std::string>{"containers-auth.json"};
}

OVERMOUNT_DECL std::pair<std::string, std::string> relocate(const reference& image, const registry_entry& entry,
                                                            const std::string& location)
{
    if (location.empty())
        return {image.domain(), image.path()};
    const std::string name = image.domain() + "/" + image.path();
    const std::string rest =
        entry.prefix.starts_with("*.") ? "/" + image.path() : name.substr(detail::conf_name(entry.prefix).size());
    const std::string text = std::string(detail::conf_name(location)) + rest;
    try {
        if (text.find('/') != std::string::npos) {
            const reference moved = reference::parse(text);
            return {moved.domain(), moved.path()};
        }
    } catch (const error&) {
        // Reported below, as a mistake of the settings.
    }
    throw error(errc::invalid_settings)
        .at(stage::source)
        .subject(name)
        .detail("the location that registries.conf gives for it is not a valid name");
}

OVERMOUNT_DECL std::vector<registries_conf_place> registries_conf_paths(const environment& from)
{
    const std::string system = "/etc/containers/registries.conf";
    const auto home = detail::config_home(from);
    std::vector<std::string> drop_ins = {system + ".d"};
    if (home)
        drop_ins.push_back(*home + "/containers/registries.conf.d");
    if (const auto named = detail::variable(from, "CONTAINERS_REGISTRIES_CONF"))
        return {registries_conf_place(*named, drop_ins, true)};
    std::vector<registries_conf_place> out;
    if (home)
        out.emplace_back(*home + "/containers/registries.conf", std::vector{drop_ins.back()}, false);
    out.emplace_back(system, drop_ins, false);
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
