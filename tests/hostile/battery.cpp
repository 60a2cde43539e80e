#include "hostile/battery.hpp"

#include <overmount/posix/fs.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>
#include <overmount/tar/entry_walk.hpp>

#include "support/tree.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <array>
#include <fstream>
#include <set>

namespace overmount::test {
namespace {

using overmount::unique_fd;

// The node of a descriptor that was opened with O_PATH. By /proc/self/fd it is reached itself, also a link.
class node_reader
{
public:
    explicit node_reader(int fd) : fd_(fd), self_("/proc/self/fd/" + std::to_string(fd))
    {
        detail::checked(::fstat(fd, &status), "stat");
    }

    kept_node read() const
    {
        kept_node out;
        out.type = type();
        out.mode = status.st_mode & 07777u;
        out.uid = status.st_uid;
        out.gid = status.st_gid;
        out.seconds = status.st_mtim.tv_sec;
        out.nanoseconds = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
        if (out.type == 'c' || out.type == 'b') {
            out.major = major(status.st_rdev);
            out.minor = minor(status.st_rdev);
        }
        if (out.type == 'f') {
            out.content = content();
            out.holes = status.st_blocks * 512 + 4096 <= status.st_size;
        }
        if (out.type == 'l')
            out.target = target();
        else
            out.xattrs = xattrs();
        out.opaque = out.xattrs.erase("trusted.overlay.opaque") != 0;
        return out;
    }

    struct stat status{};

private:
    char type() const
    {
        switch (status.st_mode & S_IFMT) {
        case S_IFREG:
            return 'f';
        case S_IFDIR:
            return 'd';
        case S_IFLNK:
            return 'l';
        case S_IFBLK:
            return 'b';
        case S_IFIFO:
            return 'p';
        case S_IFCHR:
            return status.st_rdev == 0 ? 'w' : 'c';
        default:
            return '?';
        }
    }
    std::string content() const
    {
        std::ifstream in(self_, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    std::string target() const
    {
        std::string out(8192, '\0');
        const auto size = ::readlinkat(fd_, "", out.data(), out.size());
        detail::checked(static_cast<int>(size), "readlink");
        out.resize(static_cast<std::size_t>(size));
        return out;
    }
    std::map<std::string, std::string> xattrs() const
    {
        std::map<std::string, std::string> out;
        std::string names(65536, '\0'), value(65536, '\0');
        const auto size = ::listxattr(self_.c_str(), names.data(), names.size());
        for (ssize_t at = 0; at < size;) {
            const std::string name = names.c_str() + at;
            at += static_cast<ssize_t>(name.size()) + 1;
            const auto length = ::getxattr(self_.c_str(), name.c_str(), value.data(), value.size());
            detail::checked(static_cast<int>(length), "getxattr", name);
            if (name != "security.selinux") // the host's policy labels what it likes
                out[name] = value.substr(0, static_cast<std::size_t>(length));
        }
        return out;
    }

    int fd_;
    std::string self_;
};

kept_tree read_tree(int root, const diff_record& record)
{
    kept_tree out;
    std::map<ino_t, std::string> first_names;
    std::vector<std::string> todo{""};
    while (!todo.empty()) {
        const std::string path = std::move(todo.back());
        todo.pop_back();
        const unique_fd fd(
            detail::checked(::openat(root, path.empty() ? "." : path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC),
                          "open", path));
        const node_reader node(fd.get());
        out[path] = node.read();
        if (!S_ISDIR(node.status.st_mode)) {
            if (node.status.st_nlink > 1) {
                std::string& first = first_names.try_emplace(node.status.st_ino, path).first->second;
                first = std::min(first, path);
            }
            continue;
        }
        for (const std::string& name : detail::list_directory(fd.get(), "."))
            todo.push_back(path.empty() ? name : path + "/" + name);
    }
    for (auto& [path, node] : out) {
        struct stat status{};
        detail::checked(::fstatat(root, path.empty() ? "." : path.c_str(), &status, AT_SYMLINK_NOFOLLOW),
                      "stat");
        const auto found = first_names.find(status.st_ino);
        if (node.type != 'd' && found != first_names.end() && found->second != path)
            node.same_as = found->second;
    }
    for (const std::string& path : record.implied)
        out.at(path).implied = true;
    out.at("").implied = record.implied_root;
    out.at("").opaque = record.opaque_root;
    return out;
}

template <class Storage>
std::string packed(const Storage& storage, const diff_id& id)
{
    auto reader = storage.pack(id);
    std::string out;
    std::array<char, 65536> piece;
    while (const std::size_t count = reader.read(std::as_writable_bytes(std::span(piece))))
        out.append(piece.data(), count);
    return out;
}

std::vector<std::string> sorted_names(const std::filesystem::path& directory)
{
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
        out.push_back(entry.path().filename().native());
    std::sort(out.begin(), out.end());
    return out;
}

} // namespace

std::string literal(std::string_view bytes)
{
    constexpr std::size_t long_run = 16;
    std::string out, plain;
    const auto add = [&out](const std::string& text) { (out += out.empty() ? "\"" : " \"") += text; };
    const auto flush = [&] {
        if (!plain.empty())
            add(escape(std::exchange(plain, {}), 100'000) + "\"");
    };
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t end = std::min(bytes.find_first_not_of(bytes[at], at), bytes.size());
        if (end - at < long_run) {
            plain += bytes.substr(at, end - at);
        } else {
            flush();
            add(escape(bytes.substr(at, 1)) + "\"*" + std::to_string(end - at));
        }
        at = end;
    }
    flush();
    return out.empty() ? "\"\"" : out;
}

std::string listing_of(const kept_tree& tree)
{
    std::string out;
    for (const auto& [path, node] : tree) {
        if (path.empty() && node.implied && !node.opaque)
            continue;
        std::string line = (path.empty() ? "." : escape(path, 100'000)) + " " + node.type;
        if (!node.same_as.empty()) {
            out += line + " = " + escape(node.same_as) + "\n";
            continue;
        }
        char text[64];
        if (node.type == 'f')
            line += " " + literal(node.content);
        if (node.type == 'l')
            line += " -> " + escape(node.target, 100'000);
        if (node.type == 'c' || node.type == 'b')
            line += " " + std::to_string(node.major) + ":" + std::to_string(node.minor);
        const unsigned usual = node.type == 'd' ? 0755u : node.type == 'l' ? 0777u : 0644u;
        std::snprintf(text, sizeof text, " %04o", node.mode);
        if (node.mode != usual && node.type != 'w')
            line += text;
        if (node.uid != 0 || node.gid != 0)
            line += " " + std::to_string(node.uid) + ":" + std::to_string(node.gid);
        const std::int64_t usual_time = node.implied ? 0 : 1'700'000'000;
        std::snprintf(text, sizeof text, ".%09u", node.nanoseconds);
        if ((node.seconds != usual_time || node.nanoseconds != 0) && node.type != 'w')
            line += " @" + std::to_string(node.seconds) + (node.nanoseconds != 0 ? text : "");
        for (const auto& [name, value] : node.xattrs)
            line += " " + escape(name) + "=" + literal(value);
        line += node.implied ? " implied" : "";
        line += node.opaque ? " opaque" : "";
        line += node.holes ? " holes" : "";
        out += line + "\n";
    }
    return out;
}

enclosure::enclosure() : base_(scratch_ / "base")
{
    namespace fs = std::filesystem;
    for (const char* name : {"base", "base/diffs", "base/tmp", "canary", "canary/d"})
        fs::create_directory(scratch_ / name);
    std::ofstream(scratch_ / "canary/bird") << "alive";
    std::ofstream(scratch_ / "canary/d/egg") << "whole";
    // The same at each place that `..` may lead to.
    for (const char* name : {"base/canary", "base/diffs/canary", "base/tmp/canary"})
        fs::copy(scratch_ / "canary", scratch_ / name, fs::copy_options::recursive);
}

std::string enclosure::surroundings() const
{
    std::string out;
    for (const char* name : {"canary", "base/canary", "base/diffs/canary", "base/tmp/canary"})
        out += list_tree(scratch_ / name);
    for (const char* name : {"", "base", "base/diffs", "base/tmp"})
        for (const std::string& found : sorted_names(scratch_ / name))
            out += std::string(name) + "/" + found + "\n";
    return out;
}

namespace {

// Writes the layer to a storage of its own; `read` gets the storage, the ID and the record before it is gone again.
template <class Storage, class Read>
auto keep_in(const enclosure& where, std::string_view bytes, const limits& bounds, std::size_t piece, Read read)
{
    const unique_fd diffs = detail::open_directory(AT_FDCWD, where.base() / "diffs");
    const unique_fd staging = detail::open_directory(AT_FDCWD, where.base() / "tmp");
    Storage storage(storage_place(diffs.get(), staging.get(), durability::none));
    try {
        auto writer = storage.create(write_context(staging.get(), "layer", bounds));
        for (std::size_t at = 0; at < bytes.size(); at += piece)
            writer.write(std::as_bytes(std::span(bytes.substr(at, piece))));
        const diff_record record = writer.finish();
        const diff_id id(digest::of(bytes));
        REQUIRE(writer.publish(id));
        auto kept = read(storage, id, record);
        const bool the_same_tar = packed(storage, id) == bytes;
        CHECK(the_same_tar);
        storage.erase(id);
        std::filesystem::remove(where.base() / "diffs/sha256");
        return kept;
    } catch (...) {
        detail::remove_tree(staging.get(), "layer", staging.get());
        throw;
    }
}

template <class Reader>
std::string names_in(Reader reader)
{
    std::string out;
    for (tar::located_entry one; reader.next(one);)
        out += std::to_string(one.offset) + one.entry.path + one.entry.link_target + "\n";
    return out;
}

} // namespace

kept_tree on_disk::unpack(const enclosure& where, std::string_view bytes, const limits& bounds,
                          std::size_t piece)
{
    const auto read = [](const on_disk_storage& storage, const diff_id& id, const diff_record& record) {
        return read_tree(storage.lower(id).fd->get(), record);
    };
    return keep_in<on_disk_storage>(where, bytes, bounds, piece, read);
}

std::string as_tar::keep(const enclosure& where, std::string_view bytes, const limits& bounds, std::size_t piece)
{
    const auto read = [](const virtual_storage& storage, const diff_id& id, const diff_record&) {
        using walk = detail::entry_walk<virtual_storage::reader>;
        CHECK(names_in(storage.entries(id)) == names_in(walk(storage.pack(id), detail::kept_limits())));
        return packed(storage, id);
    };
    return keep_in<virtual_storage>(where, bytes, bounds, piece, read);
}

kept_tree on_disk_without_openat2::unpack(const enclosure& where, std::string_view bytes,
                                          const limits& bounds, std::size_t piece)
{
    struct restore
    {
        ~restore() { detail::has_openat2 = true; }
    } restored;
    detail::has_openat2 = false;
    return on_disk::unpack(where, bytes, bounds, piece);
}

} // namespace overmount::test
