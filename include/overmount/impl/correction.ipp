#ifndef OVERMOUNT_IMPL_CORRECTION_IPP
#define OVERMOUNT_IMPL_CORRECTION_IPP

#include <overmount/detail/fs.hpp>
#include <overmount/mount/correction.hpp>
#include <overmount/tar/path.hpp>

#include <fcntl.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

inline bool is_opaque(int layer, const std::string& path)
{
    const std::string name = "/proc/self/fd/" + std::to_string(layer) + "/" + path;
    char value = 0;
    const ssize_t size = ::lgetxattr(name.c_str(), "trusted.overlay.opaque", &value, 1);
    if (size < 0 && errno != ENODATA && errno != EOPNOTSUPP && errno != ERANGE)
        throw_errno("getxattr", path);
    return size == 1 && value == 'y';
}

// Whether the layer has it; what cannot be told is a failure, and not a layer without it.
inline bool stat_in(int layer, const char* path, struct stat& status)
{
    if (::fstatat(layer, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    if (errno != ENOENT && errno != ENOTDIR)
        throw_errno("stat", path);
    return false;
}

// Of the layers that show the parent, those that show `path` as a directory.
inline std::vector<std::size_t> merged_with(const std::vector<stacked_layer>& stack,
                                            const std::vector<std::size_t>& above, const std::string& path)
{
    std::vector<std::size_t> out;
    for (const std::size_t layer : above) {
        const int fd = stack[layer].directory.fd->get();
        struct stat status;
        if (!stat_in(fd, path.c_str(), status))
            continue;
        if (!S_ISDIR(status.st_mode))
            break;
        out.push_back(layer);
        if (is_opaque(fd, path))
            break;
    }
    return out;
}

inline bool is_within(std::string_view path, std::string_view directory)
{
    return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

OVERMOUNT_DECL shown_layers::shown_layers(const std::vector<stacked_layer>& stack) : stack_(&stack), root_(stack.size())
{
    std::iota(root_.begin(), root_.end(), std::size_t{0});
}

OVERMOUNT_DECL const std::vector<std::size_t>& shown_layers::of(const std::string& path)
{
    if (path.empty())
        return root_;
    while (!parents_.empty() && !is_within(path, parents_.back().path))
        parents_.pop_back();
    while (parents_.empty() || parents_.back().path != path) {
        const std::size_t done = parents_.empty() ? 0 : parents_.back().path.size() + 1;
        std::string next = path.substr(0, path.find('/', done));
        auto showing = merged_with(*stack_, parents_.empty() ? root_ : parents_.back().showing, next);
        parents_.push_back({std::move(next), std::move(showing)});
    }
    return parents_.back().showing;
}

OVERMOUNT_DECL correction::correction(const std::vector<stacked_layer>& stack) : stack_(stack), shown_(stack)
{
    // In the order of their paths: neighbours have their parents in common.
    std::set<std::string_view> implied;
    std::set<std::pair<std::string_view, std::size_t>> whiteouts;
    for (std::size_t layer = 0; layer < stack.size(); ++layer) {
        const diff_record& record = stack[layer].record;
        implied_.emplace_back(record.implied.begin(), record.implied.end());
        implied.insert(record.implied.begin(), record.implied.end());
        for (const std::string& path : record.whiteout_directories)
            if (!path.empty())
                whiteouts.emplace(path, layer);
    }
    root_ = !stack.empty() && stack.front().record.implied_root && attributes_of("").has_value();
    for (const std::string_view one : implied) {
        const std::string path(one);
        const auto& showing = shown_.of(path);
        if (!showing.empty() && implies(showing.front(), path) && attributes_of(path))
            add(path);
    }
    for (const auto& [one, layer] : whiteouts) {
        const std::string path(one);
        if (shown_.of(path) == std::vector{layer})
            add(path);
    }
}

OVERMOUNT_DECL void correction::add(const std::string& path)
{
    for (std::string part = path; !part.empty(); part = tar::parent_of(part))
        directories_.insert(part);
}

OVERMOUNT_DECL bool correction::implies(std::size_t layer, const std::string& path) const
{
    return path.empty() ? stack_[layer].record.implied_root : implied_[layer].contains(path);
}

OVERMOUNT_DECL std::optional<std::size_t> correction::attributes_of(const std::string& path)
{
    for (const std::size_t layer : shown_.of(std::string(tar::parent_of(path)))) {
        struct stat status;
        if (!stat_in(stack_[layer].directory.fd->get(), path.empty() ? "." : path.c_str(), status))
            continue;
        if (!S_ISDIR(status.st_mode))
            return std::nullopt;
        if (!implies(layer, path))
            return layer;
    }
    return std::nullopt;
}

inline void copy_xattrs(int from, int to)
{
    std::vector<char> names(65536), value(65536);
    const ssize_t size = ::flistxattr(from, names.data(), names.size());
    if (size < 0 && errno != EOPNOTSUPP)
        throw_errno("listxattr");
    for (ssize_t at = 0; at < size;) {
        const std::string name = names.data() + at;
        at += static_cast<ssize_t>(name.size()) + 1;
        if (name.starts_with("trusted.overlay.") || name.starts_with("user.overlay."))
            continue;
        const ssize_t length = ::fgetxattr(from, name.c_str(), value.data(), value.size());
        check(static_cast<int>(length), "getxattr", name);
        check(::fsetxattr(to, name.c_str(), value.data(), static_cast<std::size_t>(length), 0), "setxattr", name);
    }
}

OVERMOUNT_DECL void copy_directory_attributes(int from, int to)
{
    struct stat status;
    check(::fstat(from, &status), "stat");
    check(::fchown(to, status.st_uid, status.st_gid), "chown");
    check(::fchmod(to, status.st_mode & 07777), "chmod");
    copy_xattrs(from, to);
    const std::array<timespec, 2> times{status.st_mtim, status.st_mtim};
    check(::futimens(to, times.data()), "utimens");
}

OVERMOUNT_DECL void correction::copy_attributes(int target, const std::string& path)
{
    const char* name = path.empty() ? "." : path.c_str();
    const unique_fd to(check(::openat(target, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open"));
    const auto source = attributes_of(path);
    // No layer has an entry for it: all show what an implied directory shows.
    const std::size_t layer = source ? *source : shown_.of(path).front();
    const unique_fd from(check(
        ::openat(stack_[layer].directory.fd->get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open"));
    copy_directory_attributes(from.get(), to.get());
}

OVERMOUNT_DECL void correction::write(int target)
{
    for (const std::string& path : directories_)
        check(::mkdirat(target, path.c_str(), 0700), "mkdir", path);
    // Children first: making them changes the times of their parents.
    for (auto path = directories_.rbegin(); path != directories_.rend(); ++path)
        copy_attributes(target, *path);
    copy_attributes(target, "");
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
