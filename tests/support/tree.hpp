// A tree of files as text, to compare two trees by.
#ifndef OVERMOUNT_TESTS_SUPPORT_TREE_HPP
#define OVERMOUNT_TESTS_SUPPORT_TREE_HPP

#include <overmount/core/hasher.hpp>
#include <overmount/posix/unique_fd.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace overmount::test {

// Printable, without blanks and commas: those separate.
inline std::string escape_field(std::string_view bytes)
{
    static constexpr char hex[] = "0123456789abcdef";
    std::string out;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte > 0x20 && byte < 0x7f && c != '\\' && c != ',')
            out += c;
        else
            (out += "\\x") += {hex[byte >> 4], hex[byte & 15]};
    }
    return out;
}

// Lists a tree; see list_tree. Holds one descriptor for each level.
class tree_lister
{
public:
    explicit tree_lister(const std::filesystem::path& root)
    {
        unique_fd top(checked(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open"));
        add(top.get(), ".", ".");
        walk(top.get(), "");
    }

    [[nodiscard]] std::vector<std::string> lines() const
    {
        std::vector<std::string> out;
        for (const auto& [path, node] : nodes_) {
            const auto& names = links_.at(node.id);
            out.push_back(escape_field(path) + node.before +
                          (names.size() > 1 ? escape_field(*names.begin()) : "-") + node.after);
        }
        return out;
    }

private:
    using inode = std::pair<dev_t, ino_t>;
    struct item
    {
        inode id;
        std::string before, after; // of the hard link group
    };

    static int checked(int result, const char* what)
    {
        if (result < 0)
            throw std::system_error(errno, std::system_category(), what);
        return result;
    }

    void walk(int directory, const std::string& prefix)
    {
        std::vector<std::string> names;
        {
            const int copy = checked(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "openat");
            const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy), &::closedir);
            while (const dirent* found = ::readdir(stream.get()))
                if (const std::string_view name = found->d_name; name != "." && name != "..")
                    names.emplace_back(name);
        }
        for (const auto& name : names) {
            if (!S_ISDIR(add(directory, name, prefix + name)))
                continue;
            const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
            unique_fd child(checked(::openat(directory, name.c_str(), flags), "openat"));
            walk(child.get(), prefix + name + "/");
        }
    }

    // Returns the type and mode.
    mode_t add(int parent, const std::string& name, const std::string& path)
    {
        struct stat status{};
        checked(::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW), path.c_str());
        const bool file = S_ISREG(status.st_mode), link = S_ISLNK(status.st_mode);
        const bool device = S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode);
        const bool directory = S_ISDIR(status.st_mode);
        char mode[8], nanoseconds[16];
        std::snprintf(mode, sizeof mode, "%04o", status.st_mode & 07777u);
        std::snprintf(nanoseconds, sizeof nanoseconds, "%09ld", status.st_mtim.tv_nsec);

        std::ostringstream before, after;
        before << ' ' << type_of(status.st_mode) << ' ' << mode << ' ' << status.st_uid << ' '
               << status.st_gid << ' ' << (file || link ? std::to_string(status.st_size) : "-") << ' '
               << status.st_mtim.tv_sec << '.' << nanoseconds << ' ';
        if (device)
            before << major(status.st_rdev) << ':' << minor(status.st_rdev) << ' ';
        else
            before << "- ";
        // A directory's count of links is the file system's own affair.
        after << ' ' << (directory ? "-" : std::to_string(status.st_nlink)) << ' '
              << (!file                                     ? "-"
                  : status.st_blocks * 512 < status.st_size ? "sparse"
                                                            : "full")
              << ' ' << (file ? content_of(parent, name) : "-") << ' ' << xattrs_of(parent, name) << ' '
              << (link ? escape_field(target_of(parent, name)) : "-");

        // Directories are never one inode, but a mount and what it shows may look so.
        const inode id = directory ? inode{~dev_t{0}, next_++} : inode{status.st_dev, status.st_ino};
        links_[id].insert(path);
        nodes_.emplace(path, item{id, before.str(), after.str()});
        return status.st_mode;
    }

    static char type_of(mode_t mode)
    {
        switch (mode & S_IFMT) {
        case S_IFREG:
            return 'f';
        case S_IFDIR:
            return 'd';
        case S_IFLNK:
            return 'l';
        case S_IFCHR:
            return 'c';
        case S_IFBLK:
            return 'b';
        case S_IFIFO:
            return 'p';
        default:
            return 's';
        }
    }

    static std::string content_of(int parent, const std::string& name)
    {
        const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        unique_fd file(checked(::openat(parent, name.c_str(), flags), name.c_str()));
        detail::hasher hash(digest_algorithm::sha256);
        std::vector<std::byte> buffer(1 << 16);
        for (;;) {
            const auto got = ::read(file.get(), buffer.data(), buffer.size());
            checked(got < 0 ? -1 : 0, "read");
            if (got == 0)
                return hash.finish().hex();
            hash.update(std::span(buffer).first(static_cast<std::size_t>(got)));
        }
    }

    static std::string target_of(int parent, const std::string& name)
    {
        std::string out(1 << 16, '\0');
        const auto size = ::readlinkat(parent, name.c_str(), out.data(), out.size());
        checked(size < 0 ? -1 : 0, "readlinkat");
        out.resize(static_cast<std::size_t>(size));
        return out;
    }

    static std::string xattrs_of(int parent, const std::string& name)
    {
        // The last part is not followed, so it may be of any type; nothing is opened.
        const std::string path = "/proc/self/fd/" + std::to_string(parent) + "/" + name;
        std::string names(1 << 16, '\0'), value(1 << 16, '\0'), out;
        const auto size = ::llistxattr(path.c_str(), names.data(), names.size());
        if (size <= 0)
            return "-";
        names.resize(static_cast<std::size_t>(size));
        std::set<std::string> sorted;
        for (std::size_t at = 0; at < names.size(); at += std::string_view(names.c_str() + at).size() + 1)
            sorted.insert(names.c_str() + at);
        sorted.erase("security.selinux"); // the host's policy labels what it likes
        for (const auto& key : sorted) {
            const auto length = ::lgetxattr(path.c_str(), key.c_str(), value.data(), value.size());
            checked(length < 0 ? -1 : 0, key.c_str());
            out += (out.empty() ? "" : ",") + escape_field(key) + "=" +
                   escape_field(std::string_view(value).substr(0, static_cast<std::size_t>(length)));
        }
        return out.empty() ? "-" : out;
    }

    std::map<std::string, item> nodes_;
    std::map<inode, std::set<std::string>> links_;
    ino_t next_ = 0;
};

// One line a path, sorted by the path's bytes; the root is `.`:
//   path type mode uid gid size mtime rdev group links blocks sha256 xattrs target
// `-` stands where a field does not apply. Types are f d l c b p s; mtime is whole seconds, rounded down, and
// nanoseconds; the group is the smallest path of the tree that is the same inode, if there are several;
// blocks is `sparse` or `full`; xattrs are `name=value,...`, all that can be seen, ACLs and trusted ones
// included; all is escaped as \xNN.
[[nodiscard]] inline std::string list_tree(const std::filesystem::path& root)
{
    std::string out;
    for (const auto& line : tree_lister(root).lines())
        out += line + "\n";
    return out;
}

// The line of one path of a listing, without its end; empty if there is none.
[[nodiscard]] inline std::string line_of(std::string_view listing, std::string_view path)
{
    std::istringstream lines{std::string(listing)};
    const auto start = escape_field(path) + " ";
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with(start))
            return line;
    return {};
}

// The lines that only one listing has, with `-` (the first) or `+` in front; empty when they are equal.
[[nodiscard]] inline std::string tree_difference(const std::string& first, const std::string& second)
{
    const auto split = [](const std::string& text) {
        std::vector<std::string> out;
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);)
            out.push_back(line);
        return out;
    };
    const auto one = split(first), two = split(second);
    std::string out;
    const auto add = [&out](char sign, const auto& lines, const auto& others) {
        const std::set<std::string> known(others.begin(), others.end());
        for (const auto& line : lines)
            if (!known.contains(line))
                (out += sign) += line + "\n";
    };
    add('-', one, two);
    add('+', two, one);
    return out;
}

} // namespace overmount::test

#endif
