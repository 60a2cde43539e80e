#ifndef OVERMOUNT_REGISTRY_SETTINGS_ENVIRONMENT_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_ENVIRONMENT_HPP

#include <overmount/core/config.hpp>

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

namespace overmount::OVERMOUNT_ABI::registry {

/// The value of an environment variable; nullopt if it is not set. An empty function has no variables.
using environment = std::function<std::optional<std::string>(const std::string& name)>;

/// The environment of this process. Not safe while another thread calls setenv(3).
[[nodiscard]] inline environment process_environment()
{
    return [](const std::string& name) {
        const char* value = std::getenv(name.c_str());
        return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
    };
}

namespace detail {

// A variable that is set to the empty string counts as not set, as in the XDG specification.
inline std::optional<std::string> variable(const environment& from, const std::string& name)
{
    auto value = from ? from(name) : std::nullopt;
    return value && value->empty() ? std::nullopt : value;
}

// $XDG_CONFIG_HOME or ~/.config; nullopt without a home.
inline std::optional<std::string> config_home(const environment& from)
{
    if (auto configured = variable(from, "XDG_CONFIG_HOME"))
        return configured;
    const auto home = variable(from, "HOME");
    return home ? std::optional(*home + "/.config") : std::nullopt;
}

} // namespace detail
} // namespace overmount::OVERMOUNT_ABI::registry

#endif
