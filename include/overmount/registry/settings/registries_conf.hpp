#ifndef OVERMOUNT_REGISTRY_SETTINGS_REGISTRIES_CONF_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_REGISTRIES_CONF_HPP

#include <overmount/oci/reference.hpp>
#include <overmount/registry/settings/environment.hpp>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// The pulls for which a mirror is used.
enum class pull_from_mirror
{
    all,
    digest_only,
    tag_only,
};

/// How a name without a domain is resolved if there is no alias for it.
enum class short_name_mode
{
    permissive, ///< ask on a terminal, else try all search registries
    enforcing,  ///< ask on a terminal, else fail if there are several search registries
    disabled,   ///< try all search registries
};

/// A `[[registry.mirror]]`.
struct registry_mirror
{
    registry_mirror() = default;

    std::string location;  ///< `host[:port][/path]`; replaces the prefix of the entry
    bool insecure = false; ///< the certificate is not verified, and plain HTTP is allowed
    pull_from_mirror pull = pull_from_mirror::all;
};

/// A `[[registry]]`.
struct registry_entry
{
    registry_entry() = default;

    std::string prefix;    ///< `host[:port][/path[:tag|@digest]]` or `*.host`
    std::string location;  ///< replaces the prefix; empty: the name stays as it is
    bool insecure = false; ///< the certificate is not verified, and plain HTTP is allowed
    bool blocked = false;
    bool mirror_by_digest_only = false;
    std::vector<registry_mirror> mirrors; ///< in the order in which they are tried, all before `location`
};

/// A containers-registries.conf, version 2. A value: no I/O.
/// See containers-registries.conf(5) and containers-registries.conf.d(5).
class registries_conf
{
public:
    /// Without any entry.
    registries_conf() = default;

    /// Unknown keys are ignored. Of several entries with one prefix the first counts.
    /// \param file_name for errors only
    /// Throws `error` with `errc::invalid_settings`, which names file and line, for text that is not TOML, a value of a wrong
    /// type or outside of the format, more than 1 MiB or 10,000 entries, and version 1 of the format.
    [[nodiscard]] static registries_conf parse(std::string_view text, std::string_view file_name);

    /// Overrides what `drop_in` sets: its entries replace those with the same prefix, its aliases those with the same name, its
    /// lists and its mode the earlier ones. Call it in the order of the names of the files.
    /// Throws `error` with `errc::invalid_settings` if this makes more than 10,000 entries.
    void merge(const registries_conf& drop_in);

    /// The entry with the longest prefix that consists of whole components of the image's name; nullptr if there is none.
    /// `example.com` does not match `example.com:5000`, but `*.example.com` matches any port. Valid as long as this object is
    /// unchanged.
    [[nodiscard]] const registry_entry* find(const reference& image) const;

    /// All entries, by prefix.
    [[nodiscard]] const std::map<std::string, registry_entry, std::less<>>& entries() const noexcept { return entries_; }

    /// The full name for a name without a domain; nullopt if there is no alias. Neither has a tag or a digest.
    [[nodiscard]] std::optional<std::string> alias(const std::string& name) const;
    [[nodiscard]] std::vector<std::string> unqualified_search_registries() const;
    [[nodiscard]] registry::short_name_mode short_name_mode() const;
    /// Names of credential helpers, in order; `containers-auth.json` means the auth files, and is the default.
    [[nodiscard]] std::vector<std::string> credential_helpers() const;

private:
    std::map<std::string, registry_entry, std::less<>> entries_;
    std::map<std::string, std::string> aliases_; // an empty value removes the alias
    std::optional<std::vector<std::string>> search_, helpers_;
    std::optional<registry::short_name_mode> mode_;
};

/// Domain and path that an image has at `location`, which is that of `entry` or of one of its mirrors. The entry matches the
/// image.
/// Throws `error` with `errc::invalid_settings` if this is not a valid name.
[[nodiscard]] std::pair<std::string, std::string> relocate(const reference& image, const registry_entry& entry,
                                                           const std::string& location);

/// A file to try, and the directories whose `*.conf` are merged into it, in order.
struct registries_conf_place
{
    registries_conf_place(std::string file_path, std::vector<std::string> directories, bool must_exist)
        : file(std::move(file_path)), drop_in_directories(std::move(directories)), required(must_exist)
    {
    }

    std::string file;
    std::vector<std::string> drop_in_directories;
    bool required; ///< the user named the file: it is an error if it is missing
};

/// The places of registries.conf, in order: the first whose file exists counts; if there is none, the drop-ins of the last. They
/// are `$CONTAINERS_REGISTRIES_CONF` alone, or the user's file, which replaces the system's with its drop-ins, and the system's.
[[nodiscard]] std::vector<registries_conf_place> registries_conf_paths(const environment& from);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/registries_conf.ipp>
#endif

#endif
