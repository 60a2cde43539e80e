#ifndef OVERMOUNT_REGISTRY_REGISTRY_OPTIONS_HPP
#define OVERMOUNT_REGISTRY_REGISTRY_OPTIONS_HPP

#include <overmount/registry/credentials.hpp>
#include <overmount/registry/endpoint.hpp>
#include <overmount/registry/exchange.hpp>

#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// How a registry is reached. By default as podman and containerd do on this machine: with `registries.conf` or `hosts.toml`, the
/// certificates of `certs.d`, the logins of `auth.json`, and the proxies of the environment.
class registry_options
{
public:
    /// Whether a certificate is required; `registry::tls_mode::verified` by default.
    registry_options& tls(registry::tls_mode mode) { return set(tls_, mode); }
    /// Credentials for the registry that the image's name has, instead of those in the files.
    registry_options& credentials(registry_credentials value) { return set(credentials_, std::move(value)); }
    /// A file of credentials that is read before the others.
    registry_options& auth_file(std::string path) { return set(auth_file_, std::move(path)); }
    /// A directory with certificates (`*.crt`, `*.cert`, `*.key`) that replaces those in `certs.d`.
    registry_options& certificates(std::string directory) { return set(certificates_, std::move(directory)); }
    /// Whether settings files and the environment are read; true by default. If false, what other options name is still read.
    registry_options& settings_of_user(bool read) { return set(settings_of_user_, read); }
    /// Whether the registry that the image's name has may be asked; true by default. If false, only mirrors are.
    registry_options& origin(bool allowed) { return set(origin_, allowed); }
    /// Limits of time for each request.
    registry_options& limits_of_time(registry::exchange_options limits) { return set(limits_of_time_, std::move(limits)); }

    [[nodiscard]] registry::tls_mode tls() const noexcept { return tls_; }
    [[nodiscard]] const registry_credentials& credentials() const noexcept { return credentials_; }
    [[nodiscard]] const std::string& auth_file() const noexcept { return auth_file_; }
    [[nodiscard]] const std::string& certificates() const noexcept { return certificates_; }
    [[nodiscard]] bool settings_of_user() const noexcept { return settings_of_user_; }
    [[nodiscard]] bool origin() const noexcept { return origin_; }
    [[nodiscard]] const registry::exchange_options& limits_of_time() const noexcept { return limits_of_time_; }

private:
    template <class Field, class Value>
    registry_options& set(Field& field, Value&& value)
    {
        field = std::forward<Value>(value);
        return *this;
    }

    registry::tls_mode tls_ = registry::tls_mode::verified;
    registry_credentials credentials_;
    std::string auth_file_, certificates_;
    bool settings_of_user_ = true, origin_ = true;
    registry::exchange_options limits_of_time_;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
