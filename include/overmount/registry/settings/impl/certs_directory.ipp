#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_CERTS_DIRECTORY_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_CERTS_DIRECTORY_IPP

#include <overmount/registry/settings/certs_directory.hpp>

#include <overmount/core/error.hpp>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::registry {

OVERMOUNT_DECL certificate_files read_certificate_names(const std::string& directory, std::vector<std::string> names)
{
    std::sort(names.begin(), names.end());
    const auto require = [&](const std::string& partner, const std::string& of, const char* why) {
        if (!std::binary_search(names.begin(), names.end(), partner))
            throw error(errc::invalid_settings).at(stage::source).subject(directory + "/" + of).detail(why);
        return directory + "/" + partner;
    };
    certificate_files out;
    for (const std::string& name : names) {
        const std::string stem = name.substr(0, name.rfind('.'));
        if (name.ends_with(".crt"))
            out.authorities.push_back(directory + "/" + name);
        else if (name.ends_with(".cert"))
            out.clients.emplace_back(directory + "/" + name,
                                     require(stem + ".key", name, "the certificate has no .key beside it"));
        else if (name.ends_with(".key"))
            (void)require(stem + ".cert", name, "the key has no .cert beside it");
    }
    return out;
}

OVERMOUNT_DECL std::vector<std::string> certs_directories(const environment& from)
{
    std::vector<std::string> out;
    if (const auto home = detail::config_home(from))
        out.push_back(*home + "/containers/certs.d");
    out.insert(out.end(), {"/etc/containers/certs.d", "/etc/docker/certs.d"});
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
