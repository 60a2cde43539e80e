#ifndef OVERMOUNT_REGISTRY_SETTINGS_HOST_SETTINGS_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_HOST_SETTINGS_HPP

#include <overmount/registry/mirrors.hpp>
#include <overmount/registry/settings/certs_directory.hpp>
#include <overmount/registry/settings/hosts_toml.hpp>
#include <overmount/registry/settings/registries_conf.hpp>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// Where `host_settings` reads. By default nowhere.
struct host_settings_paths
{
    host_settings_paths() = default;
    /// The places of podman, docker and containerd for the user of `from`.
    explicit host_settings_paths(const environment& from)
        : registries(registries_conf_paths(from)), certs(certs_directories(from)), hosts("/etc/containerd/certs.d")
    {
    }

    std::vector<registries_conf_place> registries;
    std::vector<std::string> certs; ///< directories with a `HOST[:PORT]` for each registry
    std::string certs_for_all;      ///< instead of `certs`, a directory with certificates for every registry: `--cert-dir`
    std::string hosts;              ///< the directory with a hosts.toml for each registry
};

/// The settings of all hosts, read once. A value: it may be used by several threads.
class host_settings
{
public:
    /// Without any settings.
    host_settings() = default;

    /// Reads the files. A missing one is skipped, and also a directory with certificates that this user may not enter, as
    /// /etc/docker often is. Throws `error` with `errc::invalid_settings` for a malformed file, and the kernel's error for one
    /// that cannot be read or is larger than 1 MiB (EFBIG); each names the file. For a file that is about one host, that is thrown when
    /// somebody asks for this host. Blocks: call it on a worker thread.
    [[nodiscard]] static host_settings load(const host_settings_paths& paths);

    [[nodiscard]] const registries_conf& registries() const noexcept { return registries_; }
    /// nullptr if there is none for this registry. Valid as long as this object is unchanged.
    [[nodiscard]] const hosts_toml* hosts(const std::string& domain) const;
    /// The certificates of certs.d for this registry.
    [[nodiscard]] certificate_files certificates(const std::string& domain) const;

    /// `registry::hosts_for` with these settings, and each host with its certificates.
    [[nodiscard]] std::vector<registry_host> hosts_for(const reference& image, const host_options& options = {}) const;

private:
    struct directory_of_host
    {
        std::optional<hosts_toml> toml;
        certificate_files certificates; // only without hosts.toml
        std::optional<error> failure;   // for those who ask for this host

        [[nodiscard]] const directory_of_host& valid() const
        {
            if (failure)
                throw *failure;
            return *this;
        }
    };
    template <class Read>
    static void read_for_later(directory_of_host& into, const Read& read)
    {
        try {
            read();
        } catch (const error& failed) {
            into.failure = failed;
        }
    }
    [[nodiscard]] const directory_of_host* find_directory(const std::string& domain) const;

    registries_conf registries_;
    std::map<std::string, directory_of_host> certificates_; // by HOST[:PORT]
    std::optional<certificate_files> certificates_for_all_;
    std::map<std::string, directory_of_host> hosts_; // by name of the directory
};

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/host_settings.ipp>
#endif

#endif
