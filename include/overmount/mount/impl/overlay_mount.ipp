// The only file that includes <sys/mount.h>.
#ifndef OVERMOUNT_MOUNT_IMPL_OVERLAY_MOUNT_IPP
#define OVERMOUNT_MOUNT_IMPL_OVERLAY_MOUNT_IPP

#include <overmount/mount/mount_lookup.hpp>
#include <overmount/mount/overlay_mount.hpp>
#include <overmount/posix/fs.hpp>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>
#include <utility>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

inline bool stat_directory(const mount_directory& directory, struct ::stat& out) noexcept
{
    return (directory.fd() >= 0 ? ::fstat(directory.fd(), &out) : ::stat(directory.path().c_str(), &out)) ==
           0;
}

inline bool lies_on_overlayfs(const mount_directory& directory) noexcept
{
    struct ::statfs info{};
    return (directory.fd() >= 0 ? ::fstatfs(directory.fd(), &info)
                                : ::statfs(directory.path().c_str(), &info)) == 0 &&
           info.f_type == OVERLAYFS_SUPER_MAGIC;
}

// Finds the directories that overlap, which ELOOP does not tell.
inline std::string explain_overlap(const mount_spec& spec)
{
    std::map<std::pair<dev_t, ino_t>, std::size_t> seen;
    for (std::size_t i = 0; i < spec.lowers().size(); ++i) {
        struct ::stat info{};
        if (!stat_directory(spec.lowers()[i], info))
            continue;
        const auto [at, fresh] = seen.try_emplace({info.st_dev, info.st_ino}, i);
        if (!fresh)
            return "lower directories " + std::to_string(at->second + 1) + " and " + std::to_string(i + 1) +
                   " are the same: " + escape(spec.lowers()[i].name());
    }
    return "one of the directories lies inside another";
}

// EINVAL stands for a dozen rules; these are the ones that a valid spec can still break.
inline std::string explain_invalid(const mount_spec& spec)
{
    if (spec.upper()) {
        struct ::stat upper{}, work{};
        if (stat_directory(*spec.upper(), upper) && stat_directory(*spec.work(), work)) {
            if (upper.st_dev != work.st_dev)
                return "the work directory lies on another file system than the upper directory";
            if (upper.st_ino == work.st_ino)
                return "the upper directory is the work directory";
        }
        const unique_fd work_fd(::open(spec.work()->name().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (work_fd && ::faccessat(work_fd.get(), "work/incompat/volatile", F_OK, 0) == 0)
            return "a volatile mount used the work directory, so the upper directory may be incomplete: if you accept that, remove "
                   "work/incompat/volatile in the work directory";
        if (lies_on_overlayfs(*spec.upper()))
            return "the upper directory lies on overlayfs, which does not support upper directories";
    }
    for (const lower& directory : spec.lowers())
        if (lies_on_overlayfs(directory))
            return "a lower directory lies on overlayfs, of which at most two can be stacked";
    return spec.upper()
               ? "the file system of the upper directory may not support upper directories, or one of the upper and work "
                 "directories lies inside the other"
               : "see the kernel log for the reason";
}

inline std::string explain(int number, const mount_spec& spec)
{
    switch (number) {
    case ENODEV:
        return "the kernel does not support overlayfs: load the module overlay";
    case EPERM:
    case EACCES:
        return spec.userxattr() ? "mounting needs CAP_SYS_ADMIN, and access to the directories"
                                : "mounting needs CAP_SYS_ADMIN; in a user namespace also userxattr";
    case ENOENT:
        return "the directory does not exist";
    case ENOTDIR:
        return "it is not a directory";
    case ELOOP:
        return explain_overlap(spec);
    case EINVAL:
        return explain_invalid(spec);
    case EBUSY:
        return "another mount uses the upper or the work directory";
    case ESTALE:
        return "the upper directory was used with other lower directories";
    case EROFS:
        return "the upper or the work directory is read-only";
    case ENOSPC:
        return "the disk is full, or the number of mounts has reached fs.mount-max";
    case EMFILE:
        return "the process has too many open files: raise its limit (ulimit -n)";
    default:
        return {};
    }
}

// `likely` is our explanation; `log` has the kernel's messages, which may quote paths and are escaped.
inline error mount_error(int number, std::string_view step, std::string_view subject, std::string_view likely,
                                        std::string_view log = {})
{
    const boost::system::error_code code(number, boost::system::system_category());
    const bool keep = number == EPERM || number == EACCES || number == ENOSYS;
    std::string words = keep ? "" : code.message();
    const auto add = [&words](std::string_view label, std::string_view text) {
        if (!text.empty())
            words.append(words.empty() ? "" : "; ").append(label).append(text);
    };
    add("", likely);
    add("kernel: ", escape(log));
    error out = keep ? error(code) : error(errc::mount_failed);
    out.at(stage::mount).operation(step).subject(subject).detail(words);
    return out;
}

// The file system context (fsopen(2)) of an overlay that is being configured, option by option.
class overlay_context
{
public:
    overlay_context(const mount_spec& spec, directory_form form) : spec_(spec), form_(form) {}

    void open();
    void give(const mount_option& option);
    void give(const char* key, const mount_directory& directory, const std::string& what);
    [[nodiscard]] unique_fd finish();

private:
    [[nodiscard]] std::string read_log() const;
    void give_text(const char* key, const mount_directory& directory, int fd, const std::string& what);
    [[nodiscard]] error refusal(int number, std::string_view step, std::string_view subject = {}) const
    {
        return mount_error(number, step, subject, explain(number, spec_), read_log());
    }

    const mount_spec& spec_;
    directory_form form_;
    unique_fd fd_;
};

OVERMOUNT_DECL void overlay_context::open()
{
    fd_.reset(::fsopen("overlay", FSOPEN_CLOEXEC));
    if (const int number = errno; !fd_)
        throw mount_error(number, "fsopen", {}, explain(number, spec_));
}

// Each read returns one message, until ENODATA. The prefixes that mark errors and warnings are removed.
OVERMOUNT_DECL std::string overlay_context::read_log() const
{
    std::string out;
    std::array<char, 8192> buffer{};
    for (int i = 0; i < 16; ++i) {
        const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
        if (got <= 0)
            break;
        std::string_view line(buffer.data(), static_cast<std::size_t>(got));
        if (line.size() > 2 && line[1] == ' ')
            line.remove_prefix(2);
        if (line.ends_with('\n'))
            line.remove_suffix(1);
        out.append(out.empty() ? "" : ", ").append(line);
    }
    return out;
}

OVERMOUNT_DECL void overlay_context::give(const mount_option& option)
{
    const int done = option.value ? ::fsconfig(fd_.get(), FSCONFIG_SET_STRING, option.key.c_str(),
                                               option.value->c_str(), 0)
                                  : ::fsconfig(fd_.get(), FSCONFIG_SET_FLAG, option.key.c_str(), nullptr, 0);
    if (const int number = errno; done != 0)
        throw mount_error(number, "fsconfig", option.key, "the kernel may not support this option", read_log());
}

OVERMOUNT_DECL void overlay_context::give(const char* key, const mount_directory& given, const std::string& what)
{
    const mount_directory directory = given.opened(); // open only until the kernel has its own reference
    unique_fd opened;
    if (directory.fd() < 0) {
        opened.reset(::open(directory.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!opened)
            throw refusal(errno, "open " + what, directory.path());
    }
    const int fd = opened ? opened.get() : directory.fd();
    if (form_ == directory_form::descriptor) {
        if (::fsconfig(fd_.get(), FSCONFIG_SET_FD, key, nullptr, fd) == 0)
            return;
        const int number = errno;
        const std::string log = read_log();
        switch (read_refusal(number, log)) {
        case descriptor_refusal::final:
            throw mount_error(number, "fsconfig " + what, directory.name(), explain(number, spec_), log);
        case descriptor_refusal::no_lowerdir:
            throw mount_error(ENOSYS, "fsconfig " + what, {}, "the kernel does not support the option lowerdir+", log);
        case descriptor_refusal::no_fd:
            form_ = directory_form::text;
        }
    }
    give_text(key, directory, fd, what);
}

// Passes the path if it is short and has no backslash, which some kernels treat as an escape in upper paths.
OVERMOUNT_DECL void overlay_context::give_text(const char* key, const mount_directory& directory, int fd,
                                                    const std::string& what)
{
    const std::string& path = directory.path();
    const bool plain =
        !path.empty() && path.size() <= fsconfig_string_max && path.find('\\') == std::string::npos;
    const std::string text = plain ? path : "/proc/self/fd/" + std::to_string(fd);
    if (::fsconfig(fd_.get(), FSCONFIG_SET_STRING, key, text.c_str(), 0) != 0)
        throw refusal(errno, "fsconfig " + what, directory.name());
}

OVERMOUNT_DECL unique_fd overlay_context::finish()
{
    if (::fsconfig(fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
        throw refusal(errno, "fsconfig create");
    const unsigned flags =
        (spec_.read_only() ? MOUNT_ATTR_RDONLY : 0u) | (spec_.nosuid() ? MOUNT_ATTR_NOSUID : 0u) |
        (spec_.nodev() ? MOUNT_ATTR_NODEV : 0u) | (spec_.noexec() ? MOUNT_ATTR_NOEXEC : 0u);
    unique_fd out(::fsmount(fd_.get(), FSMOUNT_CLOEXEC, flags));
    if (!out)
        throw refusal(errno, "fsmount");
    return out;
}

OVERMOUNT_DECL descriptor_refusal read_refusal(int number, std::string_view log) noexcept
{
    const auto says = [log](std::string_view words) { return log.find(words) != std::string_view::npos; };
    if (number != EINVAL)
        return descriptor_refusal::final;
    // Before Linux 6.5 overlayfs did not implement fsconfig; the VFS collected the options as a string for it.
    if (says("Unknown parameter") || says("Legacy"))
        return descriptor_refusal::no_lowerdir;
    return log.empty() || says("Bad value") ? descriptor_refusal::no_fd : descriptor_refusal::final;
}

OVERMOUNT_DECL unique_fd create_overlay(const mount_spec& spec, directory_form form)
{
    spec.validate();
    overlay_context context(spec, form);
    context.open();
    std::size_t index = 0;
    for (const mount_option& option : option_list(spec)) {
        if (option.key == "lowerdir+") {
            const lower& directory = spec.lowers()[index++];
            context.give("lowerdir+", directory, "lower " + std::to_string(index));
        } else if (option.key == "upperdir") {
            context.give("upperdir", *spec.upper(), "upper");
        } else if (option.key == "workdir") {
            context.give("workdir", *spec.work(), "work");
        } else {
            context.give(option);
        }
    }
    return context.finish();
}

inline unique_fd open_target(const std::string& target)
{
    unique_fd out(::open(target.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!out)
        throw mount_error(errno, "open target", target, {});
    return out;
}

} // namespace detail

OVERMOUNT_DECL unique_fd overlay_mount::create(const mount_spec& spec)
{
    return detail::create_overlay(spec, detail::directory_form::descriptor);
}

OVERMOUNT_DECL void overlay_mount::attach(int mount_fd, const std::string& target)
{
    attach(mount_fd, detail::open_target(target).get());
}

OVERMOUNT_DECL void overlay_mount::attach(int mount_fd, int target_fd)
{
    if (::move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
        throw detail::mount_error(errno, "move_mount", {},
                                  errno == EINVAL ? "the mount is already attached" : "");
    // After move_mount: attaching a mount below a shared mount makes it shared.
    struct ::mount_attr attributes{};
    attributes.propagation = MS_PRIVATE;
    if (::mount_setattr(mount_fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
        const int number = errno;
        ::umount2(("/proc/self/fd/" + std::to_string(mount_fd)).c_str(), MNT_DETACH);
        throw detail::mount_error(number, "mount_setattr", {}, {});
    }
}

OVERMOUNT_DECL mount_identity overlay_mount::mount_at(const mount_spec& spec, const std::string& target)
{
    spec.validate();
    const std::string options = legacy_options(spec);
    detail::open_target(target);
    unsigned long flags = 0;
    for (const auto& [on, flag] :
         {std::pair(spec.read_only(), MS_RDONLY), std::pair(spec.nosuid(), MS_NOSUID),
          std::pair(spec.nodev(), MS_NODEV), std::pair(spec.noexec(), MS_NOEXEC)})
        flags |= on ? static_cast<unsigned long>(flag) : 0;
    if (::mount(spec.source().c_str(), target.c_str(), "overlay", flags, options.c_str()) != 0) {
        const int number = errno;
        throw detail::mount_error(number, "mount", target, detail::explain(number, spec));
    }
    if (::mount(nullptr, target.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
        const int number = errno;
        ::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
        throw detail::mount_error(number, "mount private", target, {});
    }
    return detail::identity_of(detail::open_target(target).get(), spec.source());
}

OVERMOUNT_DECL mount_identity overlay_mount::mount(const mount_spec& spec, const std::string& target)
{
    unique_fd created;
    try {
        created = create(spec);
    } catch (const error& refused) {
        // Seccomp filters older than fsopen reject it with EPERM, but allow mount(2).
        const boost::system::error_code& code = refused.code();
        const bool system = code.category() == boost::system::system_category();
        const bool filtered = system && code.value() == EPERM && refused.operation() == "fsopen";
        if (!filtered && !(system && code.value() == ENOSYS))
            throw;
    }
    if (!created)
        return mount_at(spec, target);
    mount_identity out = detail::identity_of(created.get(), spec.source());
    attach(created.get(), target);
    return out;
}

namespace detail {

inline error unmount_error(error out, const std::string& target)
{
    return out.at(stage::mount).operation("umount").subject(target);
}

inline std::string name_of_mount(int fd)
{
    const auto now = mountinfo::read();
    const mountinfo_entry* entry = now.find_by_id(mountinfo_id(fd));
    return entry == nullptr ? "another mount"
                            : "a mount of " + escape(entry->fs_type) + " (" + escape(entry->source) + ") at " + escape(entry->mount_point);
}

// Checks that the path leads to this mount and not to another one on top of it. Closes its descriptor, which would keep the mount in
// use.
inline void check_uncovered(const mount_identity& identity, const found_mount& found)
{
    const unique_fd top(::open(found.path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!top && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        throw unmount_error(error::from_errno(errno), found.path);
    if (!top)
        throw unmount_error(error(errc::mount_covered), found.path).detail("another mount covers a parent directory of it");
    if (!lies_in(top.get(), identity, found))
        throw unmount_error(error(errc::mount_covered), found.path).detail(name_of_mount(top.get()) + " is on top of it");
}

// Tries to create an overlay whose lower directory is its upper directory. overlayfs first checks whether the upper directory is in use
// (EBUSY), then prepares the work directory, and then refuses this lower directory (ELOOP): so ELOOP means that the upper directory is
// not in use. Nothing is written to it.
OVERMOUNT_DECL upper_use probe_upper(const mount_spec& probe)
{
    const unique_fd context(::fsopen("overlay", FSOPEN_CLOEXEC));
    const auto opened = [](const mount_directory& directory) {
        return unique_fd(::open(directory.name().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    };
    const unique_fd upper = opened(*probe.upper()), work = opened(*probe.work());
    if (!context || !upper || !work)
        return upper_use::unknown;
    const auto give = [&context](const char* key, const std::string& value) {
        return ::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0;
    };
    const auto path = [](const unique_fd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); };
    if (!give("index", "on") || !give("lowerdir", path(upper)) || !give("upperdir", path(upper)) ||
        !give("workdir", path(work)) || (probe.userxattr() && ::fsconfig(context.get(), FSCONFIG_SET_FLAG, "userxattr", nullptr, 0) != 0))
        return upper_use::unknown;
    if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0)
        return upper_use::free;
    return errno == ELOOP ? upper_use::free : errno == EBUSY ? upper_use::busy : upper_use::unknown;
}

} // namespace detail

OVERMOUNT_DECL std::optional<mount_identity> overlay_mount::identify(const std::string& target)
{
    const unique_fd root = detail::open_target(target);
    if (!detail::is_mount_root(root.get()))
        return std::nullopt;
    const auto now = mountinfo::read();
    const mountinfo_entry* entry = now.find_by_id(detail::mountinfo_id(root.get()));
    return detail::identity_of(root.get(), entry == nullptr ? std::string() : entry->source);
}

OVERMOUNT_DECL void overlay_mount::unmount(const mount_identity& identity, const std::string& target, bool detach)
{
    const auto found = detail::find_mount(identity, target);
    if (!found)
        throw detail::unmount_error(error(errc::mount_not_found), target);
    detail::check_uncovered(identity, *found);
    if (::umount2(found->path.c_str(), UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)) == 0) {
        if (detail::is_attached(identity, *found))
            throw detail::unmount_error(error(errc::unmount_failed), found->path)
                .detail("another mount appeared on top of it and was unmounted instead: try again");
        return;
    }
    const int number = errno;
    switch (number) {
    case EPERM:
    case EACCES:
    case EBUSY:
        throw detail::unmount_error(error::from_errno(number), found->path);
    case EINVAL:
    case ENOENT:
        throw detail::unmount_error(error(errc::mount_not_found), found->path);
    default:
        throw detail::unmount_error(error(errc::unmount_failed), found->path)
            .detail(boost::system::error_code(number, boost::system::system_category()).message());
    }
}

OVERMOUNT_DECL bool overlay_mount::alive(const mount_identity& identity, const mount_spec& probe)
{
    const std::string boot = detail::boot_id();
    if (!identity.boot.empty() && !boot.empty() && identity.boot != boot)
        return false;
    if (identity.device != 0) {
        if (!detail::superblock_is_gone(identity.device) && !detail::device_number_was_reused(mountinfo::read(), identity))
            return true;
    } else {
        // An older version recorded no device number, or the process was killed before it recorded one.
        if (detail::find_mount(identity))
            return true;
        if (!probe.upper())
            return identity.mount_namespace != detail::mount_namespace() || !detail::lists_all_mounts(mountinfo::read());
    }
    return probe.upper() && detail::probe_upper(probe) != detail::upper_use::free;
}

} // namespace overmount::OVERMOUNT_ABI

#endif
