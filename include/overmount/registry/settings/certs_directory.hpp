#ifndef OVERMOUNT_REGISTRY_SETTINGS_CERTS_DIRECTORY_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_CERTS_DIRECTORY_HPP

#include <overmount/registry/settings/environment.hpp>

#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// The files of a client certificate.
struct client_certificate
{
    client_certificate(std::string certificate_path, std::string key_path)
        : certificate(std::move(certificate_path)), key(std::move(key_path))
    {
    }

    std::string certificate;
    std::string key; ///< empty: the key is in the same file

    friend bool operator==(const client_certificate&, const client_certificate&) = default;
};

/// The certificates for one registry, as paths of PEM files.
struct certificate_files
{
    certificate_files() = default;

    std::vector<std::string> authorities; ///< in addition to those of the system
    std::vector<client_certificate> clients;
};

/// Decides from its file names what the files in a directory `certs.d/HOST[:PORT]` are: `*.crt` is a certificate of an authority,
/// and `X.cert` a client certificate with the key `X.key`. Other names are ignored. Both lists are sorted by name.
/// Throws `error` with `errc::invalid_settings`, which names the file, for a client certificate without a key, and for a key
/// without a certificate.
/// See containers-certs.d(5).
[[nodiscard]] certificate_files read_certificate_names(const std::string& directory, std::vector<std::string> names);

/// The directories that hold a `HOST[:PORT]` for each registry, in order: `~/.config/containers/certs.d`,
/// `/etc/containers/certs.d`, `/etc/docker/certs.d`. The first that has the registry counts.
[[nodiscard]] std::vector<std::string> certs_directories(const environment& from);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/certs_directory.ipp>
#endif

#endif
