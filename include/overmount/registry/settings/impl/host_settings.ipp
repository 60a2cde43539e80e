#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_HOST_SETTINGS_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_HOST_SETTINGS_IPP

#include <overmount/registry/settings/host_settings.hpp>

#include <overmount/core/error.hpp>
#include <overmount/posix/fs.hpp>

#include <algorithm>
#include <cerrno>

#include <fcntl.h>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline constexpr std::size_t max_settings_file_bytes = 1 << 20;
inline constexpr std::size_t max_settings_names = 10'000;

inline bool is_settings_errno(const error& failure, int number)
{
    return failure.code() == boost::system::error_code(number, boost::system::system_category());
}

// nullopt if the file does not exist, or a directory has its name.
inline std::optional<std::string> read_settings_file(const std::string& path)
{
    try {
        return overmount::detail::read_file(AT_FDCWD, path, max_settings_file_bytes);
    } catch (const error& failure) {
        if (is_settings_errno(failure, ENOTDIR) || is_settings_errno(failure, EISDIR))
            return std::nullopt;
        throw;
    }
}

// The names in a directory, sorted; nullopt if it does not exist, or is none. `/.` follows a symbolic link.
inline std::optional<std::vector<std::string>> list_settings_directory(const std::string& path, bool may_be_closed)
{
    try {
        auto names = overmount::detail::list_directory(AT_FDCWD, path + "/.");
        if (names.size() > max_settings_names)
            throw error(errc::invalid_settings).at(stage::source).subject(path).detail("more than 10000 files");
        std::sort(names.begin(), names.end());
        return names;
    } catch (const error& failure) {
        if (is_settings_errno(failure, ENOENT) || is_settings_errno(failure, ENOTDIR) ||
            (may_be_closed && is_settings_errno(failure, EACCES)))
            return std::nullopt;
        throw;
    }
}

inline registries_conf read_registries_conf(const std::vector<registries_conf_place>& places)
{
    registries_conf out;
    for (const registries_conf_place& place : places) {
        const std::string file = overmount::detail::from_working_directory(place.file);
        const auto text = read_settings_file(file);
        if (!text && place.required)
            throw error::from_errno(ENOENT).at(stage::source).operation("open").subject(file);
        if (!text && &place != &places.back())
            continue;
        if (text)
            out = registries_conf::parse(*text, file);
        for (const std::string& path_of_directory : place.drop_in_directories) {
            const std::string directory = overmount::detail::from_working_directory(path_of_directory);
            for (const std::string& name : list_settings_directory(directory, false).value_or(std::vector<std::string>()))
                if (const std::string path = directory + "/" + name; name.ends_with(".conf"))
                    if (const auto drop_in = read_settings_file(path))
                        out.merge(registries_conf::parse(*drop_in, path));
        }
        break;
    }
    return out;
}

inline void append_certificates(certificate_files& to, const certificate_files& more)
{
    to.authorities.insert(to.authorities.end(), more.authorities.begin(), more.authorities.end());
    to.clients.insert(to.clients.end(), more.clients.begin(), more.clients.end());
}

} // namespace detail

OVERMOUNT_DECL host_settings host_settings::load(const host_settings_paths& paths)
{
    using overmount::detail::from_working_directory;
    const auto none = std::vector<std::string>();
    host_settings out;
    out.registries_ = detail::read_registries_conf(paths.registries);
    if (const std::string directory = from_working_directory(paths.certs_for_all); !directory.empty()) {
        if (const auto names = detail::list_settings_directory(directory, false))
            out.certificates_for_all_ = read_certificate_names(directory, *names);
    } else {
        for (const std::string& path : paths.certs) {
            const std::string root = from_working_directory(path);
            for (const std::string& domain : detail::list_settings_directory(root, true).value_or(none))
                if (!domain.starts_with('.') && !out.certificates_.contains(domain))
                    if (const auto names = detail::list_settings_directory(root + "/" + domain, true)) {
                        directory_of_host& kept = out.certificates_[domain];
                        read_for_later(kept, [&] { kept.certificates = read_certificate_names(root + "/" + domain, *names); });
                    }
        }
    }
    if (paths.hosts.empty())
        return out;
    const std::string root = from_working_directory(paths.hosts);
    for (const std::string& name : detail::list_settings_directory(root, false).value_or(none)) {
        const std::string directory = root + "/" + name;
        const auto names = name.starts_with('.') ? std::nullopt : detail::list_settings_directory(directory, false);
        if (!names)
            continue;
        directory_of_host& kept = out.hosts_[name];
        read_for_later(kept, [&] {
            const std::string file = directory + "/hosts.toml";
            if (const auto text = detail::read_settings_file(file))
                kept.toml = hosts_toml::parse(*text, file);
            else
                kept.certificates = read_certificate_names(directory, *names);
        });
    }
    return out;
}

OVERMOUNT_DECL const host_settings::directory_of_host* host_settings::find_directory(const std::string& domain) const
{
    for (const std::string& name : hosts_directories(domain))
        if (const auto found = hosts_.find(name); found != hosts_.end())
            return &found->second.valid();
    return nullptr;
}

OVERMOUNT_DECL const hosts_toml* host_settings::hosts(const std::string& domain) const
{
    const directory_of_host* found = find_directory(domain);
    return found != nullptr && found->toml ? &*found->toml : nullptr;
}

OVERMOUNT_DECL certificate_files host_settings::certificates(const std::string& domain) const
{
    if (certificates_for_all_)
        return *certificates_for_all_;
    certificate_files out;
    if (const auto found = certificates_.find(domain); found != certificates_.end())
        out = found->second.valid().certificates;
    if (const directory_of_host* found = find_directory(domain))
        detail::append_certificates(out, found->certificates);
    return out;
}

OVERMOUNT_DECL std::vector<registry_host> host_settings::hosts_for(const reference& image, const host_options& options) const
{
    std::vector<registry_host> out = registry::hosts_for(image, &registries_, hosts(image.domain()), options);
    for (registry_host& host : out)
        detail::append_certificates(host.certificates, certificates(host.credentials_domain));
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
