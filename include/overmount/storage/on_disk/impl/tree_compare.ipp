#ifndef OVERMOUNT_STORAGE_ON_DISK_IMPL_TREE_COMPARE_IPP
#define OVERMOUNT_STORAGE_ON_DISK_IMPL_TREE_COMPARE_IPP

#include <overmount/posix/fs.hpp>
#include <overmount/storage/on_disk/tree_compare.hpp>
#include <overmount/tar/xattr_rules.hpp>

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <map>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

inline const char* name_of_type(const struct stat& status)
{
    switch (status.st_mode & S_IFMT) {
    case S_IFREG: return "a regular file";
    case S_IFDIR: return "a directory";
    case S_IFLNK: return "a symbolic link";
    case S_IFCHR: return status.st_rdev == 0 ? "a whiteout" : "a character device";
    case S_IFBLK: return "a block device";
    case S_IFIFO: return "a fifo";
    default: return "a socket";
    }
}

inline std::string octal(mode_t mode)
{
    std::string out;
    for (int shift = 9; shift >= 0; shift -= 3)
        out += static_cast<char>('0' + ((mode >> shift) & 7));
    return out;
}

inline std::string owner_of(const struct stat& status)
{
    return std::to_string(status.st_uid) + ":" + std::to_string(status.st_gid);
}

inline std::string device_of(const struct stat& status)
{
    return std::to_string(major(status.st_rdev)) + ":" + std::to_string(minor(status.st_rdev));
}

// Reads the target of a symbolic link. A target that is longer than the buffer is cut, and so still differs
// from every target that a layer can have.
inline std::string link_target(int directory, const std::string& name)
{
    std::string out(8192, '\0');
    const ssize_t size = ::readlinkat(directory, name.c_str(), out.data(), out.size());
    checked(size < 0 ? -1 : 0, "readlink", name);
    out.resize(static_cast<std::size_t>(size));
    return out;
}

// The xattrs that a layer can have, and `trusted.overlay.opaque`. Others, such as security labels, come from the host.
inline std::map<std::string, std::string> attributes_of(int directory, const std::string& name)
{
    // Before Linux 6.13 no xattr call takes a descriptor and a name.
    const std::string path = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
    const auto whole = [](auto call) -> std::string {
        for (;;) {
            const ssize_t size = call(nullptr, 0);
            if (size < 0 && (errno == EOPNOTSUPP || errno == ENODATA))
                return {};
            checked(size < 0 ? -1 : 0, "getxattr");
            std::string out(static_cast<std::size_t>(size), '\0');
            const ssize_t got = size == 0 ? 0 : call(out.data(), out.size());
            if (got < 0 && errno == ERANGE)
                continue;
            checked(got < 0 ? -1 : 0, "getxattr");
            out.resize(static_cast<std::size_t>(got));
            return out;
        }
    };
    const std::string names =
        whole([&](char* into, std::size_t size) { return ::llistxattr(path.c_str(), into, size); });
    std::map<std::string, std::string> out;
    for (std::size_t begin = 0; begin < names.size(); begin = names.find('\0', begin) + 1) {
        const std::string one = names.c_str() + begin;
        const bool kept = one == "trusted.overlay.opaque" || one == "security.capability" ||
                          one.starts_with("user.") || one.starts_with("system.posix_acl_");
        if (kept)
            out[one] = whole([&](char* into, std::size_t size) {
                return ::lgetxattr(path.c_str(), one.c_str(), into, size);
            });
    }
    return out;
}

class tree_comparison
{
public:
    explicit tree_comparison(const verify_context& context) : context_(context) {}

    void run(int wanted, int found)
    {
        compare_one(wanted, found, ".", "");
        for (todo_.emplace_back(); !todo_.empty();) {
            const std::string path = std::move(todo_.back());
            todo_.pop_back();
            const unique_fd left = open(wanted, path), right = open(found, path);
            compare_names(left.get(), right.get(), path);
        }
    }

private:
    static unique_fd open(int top, const std::string& path)
    {
        unique_fd fd = open_in_root(top, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        checked(fd.get(), "open directory", path);
        return fd;
    }

    void compare_names(int wanted, int found, const std::string& path)
    {
        auto left = list_directory(wanted, "."), right = list_directory(found, ".");
        std::sort(left.begin(), left.end());
        std::sort(right.begin(), right.end());
        for (auto l = left.begin(), r = right.begin(); l != left.end() || r != right.end();) {
            context_.poll();
            const bool missing = r == right.end() || (l != left.end() && *l < *r);
            const std::string& name = missing ? *l : *r;
            const std::string whole = path.empty() ? name : path + "/" + name;
            if (missing)
                context_.changed(whole, "it is missing");
            else if (l == left.end() || *r < *l)
                context_.changed(whole, "the layer has no such entry");
            else
                compare_one(wanted, found, name, whole);
            l += !missing && (l == left.end() || *r < *l) ? 0 : 1;
            r += missing ? 0 : 1;
        }
    }

    void compare_one(int wanted, int found, const std::string& name, const std::string& path)
    {
        struct stat left, right;
        checked(::fstatat(wanted, name.c_str(), &left, AT_SYMLINK_NOFOLLOW), "stat", path);
        checked(::fstatat(found, name.c_str(), &right, AT_SYMLINK_NOFOLLOW), "stat", path);
        std::string how;
        const auto differs = [&how](const char* what, const std::string& is, const std::string& was) {
            if (is != was)
                how += (how.empty() ? "" : ", ") + std::string(what) + " is " + is + ", was " + was;
        };
        differs("it", name_of_type(right), name_of_type(left));
        const bool whiteout = S_ISCHR(left.st_mode) && left.st_rdev == 0; // its other attributes do not matter
        if (how.empty() && !whiteout) {
            if (!S_ISLNK(left.st_mode))
                differs("its mode", octal(right.st_mode), octal(left.st_mode));
            differs("its owner", owner_of(right), owner_of(left));
            if (S_ISCHR(left.st_mode) || S_ISBLK(left.st_mode))
                differs("its device", device_of(right), device_of(left));
            if (S_ISREG(left.st_mode))
                differs("its size", std::to_string(right.st_size), std::to_string(left.st_size));
            if (S_ISLNK(left.st_mode))
                differs("its target", escape(link_target(found, name)), escape(link_target(wanted, name)));
            const auto note = [&how](const char* what) { how += (how.empty() ? "" : ", ") + std::string(what); };
            if (left.st_mtim.tv_sec != right.st_mtim.tv_sec || left.st_mtim.tv_nsec != right.st_mtim.tv_nsec)
                note("its modification time differs");
            if (attributes_of(found, name) != attributes_of(wanted, name))
                note("its extended attributes differ");
            if (!S_ISDIR(left.st_mode) && !same_links(left, right))
                note("its hard links differ");
            if (S_ISDIR(left.st_mode) && name != ".")
                todo_.push_back(path);
        }
        if (!how.empty())
            context_.changed(path, how);
    }

    // True if names that are hard links to one file in one tree are so in the other tree as well.
    bool same_links(const struct stat& left, const struct stat& right)
    {
        if (left.st_nlink != right.st_nlink)
            return false;
        return left.st_nlink == 1 || links_.try_emplace(left.st_ino, right.st_ino).first->second == right.st_ino;
    }

    const verify_context& context_;
    std::vector<std::string> todo_;
    std::map<ino_t, ino_t> links_;
};

OVERMOUNT_DECL void compare_trees(int wanted, int found, const verify_context& context)
{
    tree_comparison(context).run(wanted, found);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
