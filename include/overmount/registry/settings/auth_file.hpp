#ifndef OVERMOUNT_REGISTRY_SETTINGS_AUTH_FILE_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_AUTH_FILE_HPP

#include <overmount/core/limits.hpp>
#include <overmount/registry/credentials.hpp>
#include <overmount/registry/settings/environment.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// A credential helper that a credential file names, and the server to ask it for.
class named_helper
{
public:
    named_helper(std::string name, std::string server) : name_(std::move(name)), server_(std::move(server)) {}

    /// The program is `docker-credential-NAME`. The name is as the file has it: `ask_credential_helper` checks it.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const std::string& server() const noexcept { return server_; }

    friend bool operator==(const named_helper&, const named_helper&) = default;

private:
    std::string name_, server_;
};

/// What a credential file has for a repository: credentials, a helper to ask for them, or nothing.
class auth_lookup
{
public:
    auth_lookup() = default;
    explicit auth_lookup(registry_credentials found) : credentials_(std::move(found)) {}
    explicit auth_lookup(named_helper found) : helper_(std::move(found)) {}

    [[nodiscard]] const registry_credentials& credentials() const noexcept { return credentials_; }
    [[nodiscard]] const std::optional<named_helper>& helper() const noexcept { return helper_; }
    /// Whether the file has either.
    explicit operator bool() const noexcept { return helper_ || credentials_; }

    friend bool operator==(const auth_lookup&, const auth_lookup&) = default;

private:
    registry_credentials credentials_;
    std::optional<named_helper> helper_;
};

/// The text of a credential file: `config.json` of docker, `auth.json` of podman, or the old `.dockercfg`, which is the member
/// `auths` of the others alone.
///
/// A key of `auths` is a host, with a path below it or not (`host/namespace`), or a URL: `https://host/v1/` stands for the host.
/// `docker.io`, `index.docker.io`, `registry-1.docker.io` and `https://index.docker.io/v1/` are one host.
/// See containers-auth.json(5), and "Credential stores" in the reference of `docker login`.
///
/// *Concurrency*: const calls are thread-safe.
class auth_file
{
public:
    /// Bound on the text in bytes, and on the keys in it.
    static constexpr std::size_t max_bytes = std::size_t{1} << 20, max_keys = 10'000;

    /// An empty text is a file without entries.
    ///
    /// \param file_name for errors
    /// \param bounds    `json_depth` is the bound on the nesting
    ///
    /// *Errors*: `invalid_settings` if the text is not JSON, exceeds a bound, or a member has the wrong type. The error names the
    /// file and the member, and shows nothing of the content.
    [[nodiscard]] static auth_file parse(std::string_view text, std::string_view file_name, const limits& bounds = {});

    /// What the file has for a repository. In this order: the helper of the host in `credHelpers`; the entry in `auths` with the
    /// longest key that is the host and whole components of the path; the helper in `credsStore`. Entries without a secret are
    /// passed over: docker leaves them for what is in the store. An empty name in `credHelpers`: the host has no helper.
    ///
    /// docker asks the store even if `auths` has a secret. Here the entry wins, so that a login that was written is found.
    ///
    /// \param domain          of a reference, such as `docker.io` or `localhost:5000`
    /// \param repository_path such as `library/busybox`; empty: the host alone
    ///
    /// *Errors*: `invalid_settings` if the entry has no valid user and password.
    [[nodiscard]] auth_lookup find(std::string_view domain, std::string_view repository_path) const;

    /// The helper that keeps logins for the host: that of `credHelpers`, or else `credsStore`.
    [[nodiscard]] std::optional<named_helper> helper_of(std::string_view domain) const;

    /// The text of the file with a login for `key`, a host or `host/namespace`. Everything else is kept, in its order; an older
    /// entry for the same host and path is replaced, however its key is written. docker.io is written as docker expects it.
    ///
    /// \param user `<token>` if the password is an identity token
    ///
    /// *Errors*: `invalid_settings` if the key has no host; `login_refused` if the user has a colon, one of the two has control
    /// characters, or both are empty.
    [[nodiscard]] std::string with_login(std::string_view key, std::string_view user, std::string_view password) const;
    /// The text without the entries for `key`; nullopt if there is none.
    [[nodiscard]] std::optional<std::string> without_login(std::string_view key) const;

private:
    struct entry
    {
        std::string key, auth, user, password, identity_token, registry_token;
    };

    auth_file() = default;
    [[nodiscard]] registry_credentials credentials_of(const entry& from) const;
    // The member of `credHelpers` for the host, or null.
    [[nodiscard]] const named_helper* host_helper(std::string_view domain) const;

    std::string text_, file_name_;
    limits bounds_;
    std::vector<entry> entries_;
    std::vector<named_helper> helpers_; // of `credHelpers`; the server is the key
    std::string store_;
};

/// The places of credential files, in the order in which to look. A login is written to the first: that is `explicit_file`,
/// `$REGISTRY_AUTH_FILE`, or `$XDG_RUNTIME_DIR/containers/auth.json` (`/run/containers/UID/auth.json` without the variable). Then
/// follow `$XDG_CONFIG_HOME/containers/auth.json`, `$DOCKER_CONFIG/config.json`, both with their usual place in `$HOME` without
/// the variable, and `$HOME/.dockercfg`. A variable that is empty counts as unset. See containers-auth.json(5).
///
/// \param user          user ID
/// \param explicit_file the place that the user gave; empty if none
[[nodiscard]] std::vector<std::string> auth_file_paths(const environment& variables, unsigned user,
                                                       const std::string& explicit_file = {});

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/auth_file.ipp>
#endif

#endif
