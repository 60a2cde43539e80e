#ifndef OVERMOUNT_REGISTRY_SETTINGS_HOSTS_TOML_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_HOSTS_TOML_HPP

#include <overmount/registry/credentials.hpp>
#include <overmount/registry/settings/certs_directory.hpp>
#include <overmount/registry/url.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// A `[host."URL"]`, or the server.
struct hosts_toml_host
{
    hosts_toml_host() = default;

    /// The root of the API: `https://host/v2`, or with `override_path` the URL as it is written. Empty (`url()`): a server that
    /// the file does not name, that is, the registry of the image itself.
    url root;
    bool pull = true;    ///< manifests by digest, and blobs
    bool resolve = true; ///< a tag to a digest. A host that may pull is not trusted with this.
    bool push = true;
    bool skip_verify = false;
    certificate_files certificates;
    std::vector<std::pair<std::string, secret>> headers; ///< sent with each request to this host
    std::optional<std::chrono::milliseconds> dial_timeout;
};

/// containerd's hosts.toml of one registry. A value: no I/O.
/// See docs/hosts.md of containerd.
class hosts_toml
{
public:
    /// Unknown keys are ignored.
    /// \param file_name for errors, and its directory for relative paths of certificates
    /// Throws `error` with `errc::invalid_settings`, which names file and line, for text that is not TOML, a value of a wrong
    /// type or outside of the format, and more than 1 MiB or 10,000 hosts.
    [[nodiscard]] static hosts_toml parse(std::string_view text, std::string_view file_name);

    /// In the order of the file.
    [[nodiscard]] const std::vector<hosts_toml_host>& hosts() const noexcept { return hosts_; }
    /// Tried after the hosts.
    [[nodiscard]] const hosts_toml_host& server() const noexcept { return server_; }

private:
    hosts_toml() = default;
    std::vector<hosts_toml_host> hosts_;
    hosts_toml_host server_;
};

/// The names of a registry's directory below a certs.d directory, in order; the first that exists counts. For `host:port` they
/// are `host_port_`, `host:port`, `_default`, and for `host` they are `host`, `_default`. The settings of another port do not
/// apply.
[[nodiscard]] std::vector<std::string> hosts_directories(const std::string& domain);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/hosts_toml.ipp>
#endif

#endif
