#ifndef OVERMOUNT_MOUNT_IMPL_CORRECTION_IPP
#define OVERMOUNT_MOUNT_IMPL_CORRECTION_IPP

#include <overmount/mount/correction.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/tar/path.hpp>

#include <fcntl.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// True if the layer has the path. Throws if that cannot be found out, so that a failure is not taken for a missing file.
inline bool stat_in(int layer, const char* path, struct stat& status)
{
    if (::fstatat(layer, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    if (errno != ENOENT && errno != ENOTDIR)
        throw_errno("stat", path);
    return false;
}

enum class shown_as
{
    nothing,
    other, // not a directory: hides what the layers below have there
    directory,
    opaque_directory,
};

// Uses a descriptor if the directory can be opened: a path through /proc takes three times as long.
inline shown_as look(int layer, const std::string& path)
{
    struct stat status;
    const unique_fd fd(::openat(layer, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd && errno == ENOENT)
        return shown_as::nothing;
    if (!fd && !stat_in(layer, path.c_str(), status))
        return shown_as::nothing;
    if (!fd && !S_ISDIR(status.st_mode))
        return shown_as::other;
    char value = 0;
    const std::string name = "/proc/self/fd/" + std::to_string(layer) + "/" + path;
    const ssize_t size = fd ? ::fgetxattr(fd.get(), "trusted.overlay.opaque", &value, 1)
                            : ::lgetxattr(name.c_str(), "trusted.overlay.opaque", &value, 1);
    if (size < 0 && errno != ENODATA && errno != EOPNOTSUPP && errno != ERANGE)
        throw_errno("getxattr", path);
    return size == 1 && value == 'y' ? shown_as::opaque_directory : shown_as::directory;
}

inline bool is_within(std::string_view path, std::string_view directory)
{
    return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

OVERMOUNT_DECL shown_layers::shown_layers(const std::vector<stacked_layer>& stack) : stack_(&stack)
{
    root_.showing.resize(stack.size());
    std::iota(root_.showing.begin(), root_.showing.end(), std::size_t{0});
}

OVERMOUNT_DECL void shown_layers::list(lookup& directory) const
{
    constexpr std::size_t most = 256;
    for (const std::size_t layer : directory.showing) {
        auto& held = directory.listed.emplace_back();
        if (auto found = list_small_directory((*stack_)[layer].fd()->get(), directory.path, most))
            held.emplace(std::make_move_iterator(found->begin()), std::make_move_iterator(found->end()));
    }
}

// Looks `path` up in the layers that have its parent directory.
OVERMOUNT_DECL shown_layers::lookup shown_layers::look_up(std::string path)
{
    constexpr std::size_t few = 6; // listing a directory takes about as many calls
    lookup& parent = parents_.empty() ? root_ : parents_.back();
    const auto& above = parent.showing;
    if (++parent.children == few)
        list(parent);
    lookup out{std::move(path)};
    out.searched = above.size();
    const std::string name(tar::name_of(out.path));
    for (std::size_t index = 0; index < above.size(); ++index) {
        if (!parent.listed.empty() && parent.listed[index] && !parent.listed[index]->contains(name))
            continue;
        const shown_as what = look((*stack_)[above[index]].fd()->get(), out.path);
        if (what == shown_as::nothing)
            continue;
        if (what == shown_as::other)
            break;
        out.showing.push_back(above[index]);
        if (what == shown_as::opaque_directory) {
            out.searched = index + 1;
            break;
        }
    }
    return out;
}

OVERMOUNT_DECL const std::vector<std::size_t>& shown_layers::of(const std::string& path)
{
    if (path.empty())
        return root_.showing;
    while (!parents_.empty() && !is_within(path, parents_.back().path))
        parents_.pop_back();
    while (parents_.empty() || parents_.back().path != path) {
        const std::size_t done = parents_.empty() ? 0 : parents_.back().path.size() + 1;
        parents_.push_back(look_up(path.substr(0, path.find('/', done))));
    }
    return parents_.back().showing;
}

OVERMOUNT_DECL std::span<const std::size_t> shown_layers::hidden(const std::string& path)
{
    if (path.empty())
        return {};
    static_cast<void>(of(path));
    const auto& above = (parents_.size() == 1 ? root_ : parents_[parents_.size() - 2]).showing;
    return std::span(above).subspan(parents_.back().searched);
}

OVERMOUNT_DECL correction::correction(const std::vector<stacked_layer>& stack) : stack_(stack), shown_(stack)
{
    // Query the paths in sorted order: neighbours share their parents.
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
    for (std::string part = path; !part.empty() && !directories_.contains(part); part = tar::parent_of(part))
        directories_.emplace(part, source_of(part));
}

OVERMOUNT_DECL bool correction::implies(std::size_t layer, const std::string& path) const
{
    return path.empty() ? stack_[layer].record.implied_root : implied_[layer].contains(path);
}

OVERMOUNT_DECL std::optional<std::size_t> correction::attributes_of(const std::string& path)
{
    for (const std::size_t layer : shown_.of(path))
        if (!implies(layer, path))
            return layer;
    for (const std::size_t layer : shown_.hidden(path)) {
        struct stat status;
        if (!stat_in(stack_[layer].fd()->get(), path.c_str(), status))
            continue;
        if (!S_ISDIR(status.st_mode))
            return std::nullopt;
        if (!implies(layer, path))
            return layer;
    }
    return std::nullopt;
}

OVERMOUNT_DECL std::size_t correction::source_of(const std::string& path)
{
    // If no layer has an entry for it, all its directories have the attributes of implied directories: any of them will do.
    const auto source = attributes_of(path);
    return source ? *source : shown_.of(path).front();
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
        checked(static_cast<int>(length), "getxattr", name);
        checked(::fsetxattr(to, name.c_str(), value.data(), static_cast<std::size_t>(length), 0), "setxattr", name);
    }
}

OVERMOUNT_DECL void copy_directory_attributes(int from, int to)
{
    struct stat status;
    checked(::fstat(from, &status), "stat");
    checked(::fchown(to, status.st_uid, status.st_gid), "chown");
    checked(::fchmod(to, status.st_mode & 07777), "chmod");
    copy_xattrs(from, to);
    const std::array<timespec, 2> times{status.st_mtim, status.st_mtim};
    checked(::futimens(to, times.data()), "utimens");
}

inline void copy_directory(const stacked_layer& from, int target, const std::string& path)
{
    constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    const char* name = path.empty() ? "." : path.c_str();
    const unique_fd to(checked(::openat(target, name, flags), "open", path));
    const unique_fd source(checked(::openat(from.fd()->get(), name, flags), "open", path));
    copy_directory_attributes(source.get(), to.get());
}

OVERMOUNT_DECL void correction::write(int target)
{
    for (const auto& [path, source] : directories_)
        checked(::mkdirat(target, path.c_str(), 0700), "mkdir", path);
    // Copy attributes of children first, after all directories were created: creating a child changes the times of its parent.
    for (auto one = directories_.rbegin(); one != directories_.rend(); ++one)
        copy_directory(stack_[one->second], target, one->first);
    copy_directory(stack_[source_of("")], target, "");
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
