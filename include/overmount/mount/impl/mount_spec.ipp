#ifndef OVERMOUNT_MOUNT_IMPL_MOUNT_SPEC_IPP
#define OVERMOUNT_MOUNT_IMPL_MOUNT_SPEC_IPP

#include <overmount/mount/mount_spec.hpp>

#include <string_view>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

// One page less the NUL that the kernel puts at its end. Some machines have larger pages, none smaller ones.
inline constexpr std::size_t legacy_options_max = 4095;
// The largest string that FSCONFIG_SET_STRING accepts.
inline constexpr std::size_t fsconfig_string_max = 255;

[[noreturn]] inline void refuse_spec(std::string_view why, std::string_view subject = {})
{
    throw error(errc::mount_not_possible).at(stage::mount).subject(subject).detail(why);
}

inline void check_directory(const mount_directory& directory, std::string_view what)
{
    if (directory.fd() < 0 && directory.path().empty())
        refuse_spec(std::string(what).append(" has neither a descriptor nor a path"));
    if (directory.path().find('\0') != std::string::npos)
        refuse_spec(std::string("the path of ").append(what).append(" contains a NUL"), directory.path());
}

// The kernel splits the options of mount(2) at commas and lower directories at colons; a backslash escapes both.
inline std::string escape_option(std::string_view path)
{
    std::string out;
    for (const char byte : path) {
        if (byte == '\\' || byte == ':' || byte == ',')
            out += '\\';
        out += byte;
    }
    return out;
}

} // namespace detail

OVERMOUNT_DECL std::string mount_directory::name() const
{
    return path_.empty() ? "/proc/self/fd/" + std::to_string(fd()) : path_;
}

OVERMOUNT_DECL void mount_spec::validate() const
{
    if (lowers_.size() > max_lowers)
        throw error(errc::too_many_layers)
            .at(stage::mount)
            .detail("the mount has " + std::to_string(lowers_.size()) + " lower directories");
    if (lowers_.empty())
        detail::refuse_spec("there is no lower directory");
    if (upper_ && !work_)
        detail::refuse_spec("the upper directory needs a work directory");
    if (work_ && !upper_)
        detail::refuse_spec("there is a work directory without an upper directory");
    if (!upper_ && lowers_.size() < 2)
        detail::refuse_spec(
            "overlayfs needs a second lower directory if there is no upper directory: add an empty one");
    for (std::size_t i = 0; i < lowers_.size(); ++i)
        detail::check_directory(lowers_[i], "lower directory " + std::to_string(i + 1));
    if (upper_) {
        detail::check_directory(*upper_, "the upper directory");
        detail::check_directory(*work_, "the work directory");
    }
    if (source_.empty() || source_.size() > detail::fsconfig_string_max ||
        source_.find('\0') != std::string::npos)
        detail::refuse_spec("the source is empty, longer than 255 bytes, or contains a NUL", source_);
}

OVERMOUNT_DECL std::vector<mount_option> option_list(const mount_spec& spec)
{
    std::vector<mount_option> out{{"source", spec.source()}};
    for (const lower& directory : spec.lowers())
        out.push_back({"lowerdir+", directory.name()});
    if (spec.upper())
        out.push_back({"upperdir", spec.upper()->name()});
    if (spec.work())
        out.push_back({"workdir", spec.work()->name()});
    // With userxattr the kernel accepts no redirect_dir other than nofollow, and sets that itself.
    if (!spec.userxattr())
        out.push_back({"redirect_dir", "off"});
    out.push_back({"metacopy", "off"});
    out.push_back({"index", "off"});
    out.push_back({"xino", "off"});
    if (spec.userxattr())
        out.push_back({"userxattr", std::nullopt});
    if (spec.volatile_() && spec.upper())
        out.push_back({"volatile", std::nullopt});
    return out;
}

OVERMOUNT_DECL std::string legacy_options(const mount_spec& spec)
{
    std::string out = "lowerdir=";
    bool first = true;
    for (const mount_option& option : option_list(spec)) {
        if (option.key == "source")
            continue;
        if (option.key == "lowerdir+") {
            out.append(first ? "" : ":").append(detail::escape_option(*option.value));
            first = false;
            continue;
        }
        out.append(",").append(option.key);
        if (option.value)
            out.append("=").append(detail::escape_option(*option.value));
    }
    if (out.size() > detail::legacy_options_max)
        detail::refuse_spec("mount(2) reads 4095 bytes of options and this mount needs " +
                            std::to_string(out.size()) + ": use fewer layers, shorter paths, or Linux 6.7");
    return out;
}

} // namespace overmount::OVERMOUNT_ABI

#endif
