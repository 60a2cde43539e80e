#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_AUTH_FILE_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_AUTH_FILE_IPP

#include <overmount/core/error.hpp>
#include <overmount/registry/ascii.hpp>
#include <overmount/registry/base64.hpp>
#include <overmount/registry/settings/auth_file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <tuple>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

using auth_json = nlohmann::ordered_json; // keeps the order of members

inline constexpr std::string_view docker_hub_key = "https://index.docker.io/v1/";

inline error invalid_auth_file(std::string_view file_name, std::string_view why)
{
    return error(errc::invalid_settings).at(stage::source).operation("read credentials").subject(file_name).detail(why);
}

// A key of `auths` or `credHelpers`, or a domain, in its normal form.
class auth_key
{
public:
    explicit auth_key(std::string_view key)
    {
        const bool https = key.starts_with("https://"), http = key.starts_with("http://");
        rank_ = key == docker_hub_key ? 3 : https ? 1 : http ? 0 : 2;
        key.remove_prefix(https ? 8 : http ? 7 : 0);
        const auto slash = std::min(key.find('/'), key.size());
        host_ = ascii_lower(key.substr(0, slash));
        if (host_ == "index.docker.io" || host_ == "registry-1.docker.io")
            host_ = "docker.io";
        key.remove_prefix(slash);
        const bool address = https || http || key.ends_with('/');
        while (key.starts_with('/'))
            key.remove_prefix(1);
        while (key.ends_with('/'))
            key.remove_suffix(1);
        // The versions of docker's protocol are no namespaces.
        if (!address || (key != "v1" && key != "v2"))
            path_ = key;
    }

    [[nodiscard]] const std::string& host() const noexcept { return host_; }
    // How many bytes of the path the key has.
    [[nodiscard]] std::size_t length() const noexcept { return path_.size(); }
    // Of keys that mean the same, the one with the highest rank is the one that docker reads.
    [[nodiscard]] int rank() const noexcept { return rank_; }

    [[nodiscard]] bool covers(std::string_view host, std::string_view path) const
    {
        return host_ == host && path.starts_with(path_) &&
               (path_.empty() || path.size() == path_.size() || path[path_.size()] == '/');
    }
    [[nodiscard]] bool same_place(const auth_key& other) const { return host_ == other.host_ && path_ == other.path_; }

    // As tools write it today.
    [[nodiscard]] std::string written() const
    {
        if (path_.empty())
            return host_ == "docker.io" ? std::string(docker_hub_key) : host_;
        return host_ + "/" + path_;
    }

private:
    std::string host_, path_;
    int rank_;
};

inline auth_json parse_auth_json(std::string_view text, std::string_view file_name, const limits& bounds)
{
    if (text.size() > auth_file::max_bytes)
        throw invalid_auth_file(file_name, "the file has more than 1 MiB");
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
        return auth_json::object();
    if (text.find('\0') != std::string_view::npos) // the parser would end there
        throw invalid_auth_file(file_name, "the file has a NUL");
    std::size_t keys = 0;
    // nlohmann has no limits of its own, copies and writes recursively, and looks up the keys of an ordered object one by one.
    const auto check = [&](int depth, auth_json::parse_event_t event, auth_json&) {
        using kind = auth_json::parse_event_t;
        if ((event == kind::object_start || event == kind::array_start) && static_cast<unsigned>(depth) >= bounds.json_depth)
            throw invalid_auth_file(file_name, "the file is nested too deeply");
        if (event == kind::key && ++keys > auth_file::max_keys)
            throw invalid_auth_file(file_name, "the file has too many keys");
        return true;
    };
    auth_json out;
    std::string why;
    try {
        out = auth_json::parse(text.begin(), text.end(), check);
    } catch (const auth_json::parse_error& failure) { // its own text quotes the file
        why = "it is not JSON, at byte " + std::to_string(failure.byte);
    } catch (const auth_json::exception&) {
        why = "it has a number out of range";
    }
    if (!why.empty())
        throw invalid_auth_file(file_name, why);
    if (!out.is_object())
        throw invalid_auth_file(file_name, "it is not an object");
    return out;
}

// The member `name` of `object`; null, as Go writes what is absent, is as good as none.
inline const auth_json* auth_member(const auth_json& object, const char* name)
{
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

inline std::string auth_text(const auth_json& object, const char* name, std::string_view file_name)
{
    const auth_json* found = auth_member(object, name);
    if (found == nullptr)
        return {};
    if (!found->is_string())
        throw invalid_auth_file(file_name, std::string(name) + " is not a string");
    return found->get<std::string>();
}

// Whether the document is what `auths` is in the newer form.
inline bool is_dockercfg(const auth_json& document)
{
    for (const char* name : {"auths", "credHelpers", "credsStore"})
        if (document.contains(name))
            return false;
    return std::any_of(document.begin(), document.end(), [](const auth_json& value) {
        return value.is_object() && value.contains("auth") && value["auth"].is_string();
    });
}

inline std::string auth_document_text(const auth_json& document, std::string_view file_name)
{
    std::string out;
    try {
        out = document.dump(1, '\t') + "\n";
    } catch (const auth_json::exception&) {
    }
    if (out.empty())
        throw invalid_auth_file(file_name, "the name of the registry is not UTF-8");
    return out;
}

} // namespace detail

OVERMOUNT_DECL auth_file auth_file::parse(std::string_view text, std::string_view file_name, const limits& bounds)
{
    auth_file out;
    out.text_ = text;
    out.file_name_ = file_name;
    out.bounds_ = bounds;
    const detail::auth_json document = detail::parse_auth_json(text, file_name, bounds);
    const auto object = [&](const detail::auth_json& value, const char* name) -> const detail::auth_json& {
        if (!value.is_object())
            throw detail::invalid_auth_file(file_name, std::string(name) + " is not an object");
        return value;
    };
    const detail::auth_json* auths =
        detail::is_dockercfg(document) ? &document : detail::auth_member(document, "auths");
    if (auths != nullptr)
        for (const auto& [key, value] : object(*auths, "auths").items()) {
            if (value.is_null())
                continue;
            // By a name of its own: Clang 14 captures no structured binding.
            const auto text_of = [&object, &file_name, &entry = value](const char* name) {
                return detail::auth_text(object(entry, "an entry of auths"), name, file_name);
            };
            out.entries_.push_back({key, text_of("auth"), text_of("username"), text_of("password"), text_of("identitytoken"),
                                    text_of("registrytoken")});
        }
    if (const auto* helpers = detail::auth_member(document, "credHelpers"))
        for (const auto& [key, value] : object(*helpers, "credHelpers").items()) {
            if (!value.is_string())
                throw detail::invalid_auth_file(file_name, "a name in credHelpers is not a string");
            out.helpers_.emplace_back(value.get<std::string>(), key);
        }
    out.store_ = detail::auth_text(document, "credsStore", file_name);
    return out;
}

OVERMOUNT_DECL const named_helper* auth_file::host_helper(std::string_view domain) const
{
    const detail::auth_key wanted(domain);
    for (const named_helper& one : helpers_)
        if (detail::auth_key(one.server()).same_place(wanted))
            return &one;
    return nullptr;
}

OVERMOUNT_DECL std::optional<named_helper> auth_file::helper_of(std::string_view domain) const
{
    const named_helper* own = host_helper(domain);
    named_helper out = own != nullptr ? *own : named_helper(store_, detail::auth_key(domain).written());
    if (out.name().empty())
        return std::nullopt;
    return out;
}

OVERMOUNT_DECL auth_lookup auth_file::find(std::string_view domain, std::string_view repository_path) const
{
    const std::string host = detail::auth_key(domain).host();
    const std::optional<named_helper> helper = helper_of(host);
    if (helper && host_helper(host) != nullptr)
        return auth_lookup(*helper);
    std::vector<std::tuple<std::size_t, int, const entry*>> found;
    for (const entry& one : entries_)
        if (const detail::auth_key key(one.key); key.covers(host, repository_path))
            found.emplace_back(key.length(), key.rank(), &one);
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { // of two alike, the first in the file
        return std::tie(std::get<0>(b), std::get<1>(b), std::get<2>(a)) < std::tie(std::get<0>(a), std::get<1>(a), std::get<2>(b));
    });
    for (const auto& [length, rank, one] : found)
        if (registry_credentials credentials = credentials_of(*one))
            return auth_lookup(std::move(credentials));
    return helper ? auth_lookup(*helper) : auth_lookup();
}

OVERMOUNT_DECL registry_credentials auth_file::credentials_of(const entry& from) const
{
    const char* why = "an entry of auths has a user or a secret with control characters";
    try {
        if (!from.registry_token.empty())
            return registry_credentials::bearer(from.registry_token);
        if (!from.identity_token.empty())
            return registry_credentials::identity_token(from.identity_token);
        if (from.auth.empty()) // a user alone is no login
            return from.password.empty() ? registry_credentials() : registry_credentials::password(from.user, from.password);
        const std::optional<std::string> decoded = base64_decode(from.auth);
        const auto colon = decoded ? decoded->find(':') : std::string::npos;
        if (colon != std::string::npos)
            return registry_credentials::password(decoded->substr(0, colon), decoded->substr(colon + 1));
        why = "auth of an entry is not the base64 form of USER:PASSWORD";
    } catch (const error&) {
    }
    throw detail::invalid_auth_file(file_name_, why);
}

OVERMOUNT_DECL std::string auth_file::with_login(std::string_view key, std::string_view user, std::string_view password) const
{
    const detail::auth_key wanted(key);
    if (wanted.host().empty())
        throw detail::invalid_auth_file(file_name_, "the name of the registry is empty");
    if (!registry_credentials::password(std::string(user), std::string(password))) // it throws what could not be read again
        throw error(errc::login_refused).at(stage::source).operation("log in").detail("there is neither a user nor a password");
    detail::auth_json document = detail::parse_auth_json(text_, file_name_, bounds_);
    detail::auth_json& auths = detail::is_dockercfg(document) ? document : document["auths"];
    if (auths.is_null())
        auths = detail::auth_json::object();
    const std::string written = wanted.written();
    for (const entry& one : entries_)
        if (one.key != written && detail::auth_key(one.key).same_place(wanted))
            auths.erase(one.key);
    detail::auth_json login = detail::auth_json::object();
    if (user == "<token>") { // other tools pass over an entry without a user
        login["auth"] = base64_encode("<token>:");
        login["identitytoken"] = password;
    } else {
        login["auth"] = base64_encode(std::string(user) + ":" + std::string(password));
    }
    auths[written] = std::move(login);
    return detail::auth_document_text(document, file_name_);
}

OVERMOUNT_DECL std::optional<std::string> auth_file::without_login(std::string_view key) const
{
    const detail::auth_key wanted(key);
    detail::auth_json document = detail::parse_auth_json(text_, file_name_, bounds_);
    detail::auth_json& auths = detail::is_dockercfg(document) ? document : document["auths"];
    std::size_t erased = 0;
    for (const entry& one : entries_)
        if (detail::auth_key(one.key).same_place(wanted))
            erased += auths.erase(one.key);
    if (erased == 0)
        return std::nullopt;
    return detail::auth_document_text(document, file_name_);
}

OVERMOUNT_DECL std::vector<std::string> auth_file_paths(const environment& variables, unsigned user,
                                                        const std::string& explicit_file)
{
    std::vector<std::string> out;
    const auto add = [&out](const std::optional<std::string>& directory, const char* name) {
        if (directory)
            out.push_back(*directory + name);
    };
    if (!explicit_file.empty())
        out.push_back(explicit_file);
    const auto home = detail::variable(variables, "HOME");
    add(detail::variable(variables, "REGISTRY_AUTH_FILE"), "");
    if (const auto runtime = detail::variable(variables, "XDG_RUNTIME_DIR"))
        add(runtime, "/containers/auth.json");
    else
        add("/run/containers/" + std::to_string(user), "/auth.json");
    add(detail::config_home(variables), "/containers/auth.json");
    if (const auto docker = detail::variable(variables, "DOCKER_CONFIG"))
        add(docker, "/config.json");
    else
        add(home, "/.docker/config.json");
    add(home, "/.dockercfg");
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
