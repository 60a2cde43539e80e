#ifndef OVERMOUNT_PLATFORM_HPP
#define OVERMOUNT_PLATFORM_HPP

#include <overmount/detail/config.hpp>

#include <sys/utsname.h>

#include <string>
#include <string_view>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

/// What an image runs on, in the words of the OCI image spec (those of Go): `linux`, `amd64`, `v8`.
class platform
{
public:
    platform(std::string os, std::string architecture, std::string variant = {})
        : os_(std::move(os)), architecture_(std::move(architecture)), variant_(std::move(variant))
    {
    }
    /// The platform of this machine.
    [[nodiscard]] static platform host()
    {
        ::utsname names{};
        ::uname(&names);
        const std::string_view machine = names.machine;
        if (machine == "x86_64")
            return {"linux", "amd64"};
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
    /// Reads `OS/ARCHITECTURE[/VARIANT]`; parts that are missing stay empty.
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

    /// How well something made for `offered` runs here: 0 not at all, more is better. The same variant is best,
    /// then an older one (`v6` on `v7`), the newest first.
    [[nodiscard]] unsigned fit(const platform& offered) const noexcept
    {
        if (offered.os_ != os_ || offered.architecture_ != architecture_)
            return 0;
        const auto level = [this](const std::string& variant) -> unsigned {
            if (variant.size() >= 2 && variant[0] == 'v' && variant[1] >= '0' && variant[1] <= '9')
                return static_cast<unsigned>(variant[1] - '0');
            return architecture_ == "arm64" ? 8u : architecture_ == "arm" ? 7u : 1u;
        };
        const unsigned mine = level(variant_), theirs = level(offered.variant_);
        return theirs > mine ? 0 : 1 + theirs;
    }

    [[nodiscard]] std::string string() const
    {
        return os_ + "/" + architecture_ + (variant_.empty() ? "" : "/" + variant_);
    }

    friend bool operator==(const platform&, const platform&) = default;

private:
    std::string os_, architecture_, variant_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif
