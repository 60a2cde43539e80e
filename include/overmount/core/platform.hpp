#ifndef OVERMOUNT_CORE_PLATFORM_HPP
#define OVERMOUNT_CORE_PLATFORM_HPP

#include <overmount/core/config.hpp>

#include <sys/utsname.h>

#include <string>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// The platform that an image is built for, with the names of the OCI image spec (those of Go): `linux`, `amd64`, `v8`. Other
/// names of an architecture (`x86_64`, `aarch64`, `i386`, `armhf`, `armel`) are converted to these.
class platform
{
public:
    platform(std::string os, std::string architecture, std::string variant = {})
        : os_(std::move(os)), architecture_(std::move(architecture)), variant_(std::move(variant))
    {
        constexpr std::string_view names[][3] = {{"x86_64", "amd64", ""},  {"x86-64", "amd64", ""},
                                                 {"aarch64", "arm64", ""}, {"i386", "386", ""},
                                                 {"armhf", "arm", "v7"},   {"armel", "arm", "v6"}};
        for (const auto& [other, name, usual] : names) {
            if (architecture_ != other)
                continue;
            architecture_ = name;
            if (variant_.empty())
                variant_ = usual;
            break;
        }
    }
    /// The platform of this machine.
    [[nodiscard]] static platform host()
    {
        ::utsname names{};
        ::uname(&names);
        const std::string_view machine = names.machine;
        if (machine == "aarch64")
            return {"linux", "arm64", "v8"};
        if (machine.starts_with("armv"))
            return {"linux", "arm", std::string(machine.substr(3, 2))};
        if (machine.size() == 4 && machine.starts_with('i') && machine.ends_with("86"))
            return {"linux", "386"};
        if (machine == "loongarch64")
            return {"linux", "loong64"};
        return {"linux", std::string(machine)};
    }
    /// Parses `OS/ARCHITECTURE[/VARIANT]`. Missing parts stay empty.
    [[nodiscard]] static platform parse(std::string_view text)
    {
        const auto first = text.find('/');
        if (first == std::string_view::npos)
            return {std::string(text), {}};
        const auto second = text.find('/', first + 1);
        return {std::string(text.substr(0, first)), std::string(text.substr(first + 1, second - first - 1)),
                second == std::string_view::npos ? std::string() : std::string(text.substr(second + 1))};
    }

    [[nodiscard]] const std::string& os() const noexcept { return os_; }
    [[nodiscard]] const std::string& architecture() const noexcept { return architecture_; }
    [[nodiscard]] const std::string& variant() const noexcept { return variant_; }

    /// Rates how well an image for the platform `offered` runs on this platform; 0 means not at all, higher is better. The same
    /// variant is best, then older variants (`v6` on `v7`), the newest first, then the other architectures that this one
    /// executes: 386 on amd64, arm on arm64 (`v8` to `v5`). The order is containerd's; see its package `platforms`.
    [[nodiscard]] unsigned fit(const platform& offered) const noexcept
    {
        if (offered.os_ != os_)
            return 0;
        const unsigned mine = level(architecture_, variant_),
                       theirs = level(offered.architecture_, offered.variant_);
        if (offered.architecture_ == architecture_) {
            if (offered.variant_ == variant_)
                return 1000;
            if (theirs == 0)
                return offered.variant_.empty() ? 100 : 0;
            // v9.0 is an extension of v8.5, v9.1 of v8.6, and so on.
            const bool older = theirs <= mine && (mine < 90 || theirs >= 90 || theirs + 5 <= mine);
            return older ? 100 + theirs : 0;
        }
        if (architecture_ == "amd64" && offered.architecture_ == "386")
            return 1;
        if (architecture_ == "arm64" && offered.architecture_ == "arm" && theirs <= 80)
            return theirs;
        return 0;
    }

    [[nodiscard]] std::string string() const
    {
        return os_ + "/" + architecture_ + (variant_.empty() ? "" : "/" + variant_);
    }

    friend bool operator==(const platform&, const platform&) = default;

private:
    // Orders variants: `v8` is 80, `v8.2` is 82. No variant means the architecture's default. 0 if the variant has no order.
    [[nodiscard]] static unsigned level(std::string_view architecture, std::string_view variant) noexcept
    {
        const auto digit = [](char c) { return c >= '0' && c <= '9' ? static_cast<unsigned>(c - '0') : 10u; };
        if (architecture != "amd64" && architecture != "arm64" && architecture != "arm")
            return 0;
        if (variant.empty())
            return architecture == "amd64" ? 10 : architecture == "arm64" ? 80 : 70;
        if (variant.front() == 'v')
            variant.remove_prefix(1);
        const bool minor = variant.size() == 3 && variant[1] == '.' && digit(variant[2]) < 10;
        if (!(variant.size() == 1 || minor) || digit(variant[0]) > 9)
            return 0;
        return 10 * digit(variant[0]) + (minor ? digit(variant[2]) : 0);
    }

    std::string os_, architecture_, variant_;
};

} // namespace overmount::OVERMOUNT_ABI

#endif
