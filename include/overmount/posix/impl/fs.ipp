#ifndef OVERMOUNT_POSIX_IMPL_FS_IPP
#define OVERMOUNT_POSIX_IMPL_FS_IPP

#include <overmount/posix/fs.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <memory>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_DECL void throw_errno(const char* operation, std::string_view subject)
{
    throw error::from_errno(errno).operation(operation).subject(subject);
}

OVERMOUNT_DECL unique_fd open_directory(int parent, const std::string& name)
{
    return unique_fd(checked(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW),
                           "open directory", name));
}

OVERMOUNT_DECL unique_fd open_in_root(int root, const std::string& path, int flags)
{
    open_how how{};
    how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
    // EAGAIN: a file was renamed during the lookup. Only one process works in a staging directory, so retrying succeeds.
    for (int attempt = 0; attempt < 128 && has_openat2; ++attempt) {
        const long fd = ::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR && errno != ENOSYS && errno != EPERM))
            return unique_fd(static_cast<int>(fd));
        // Old kernels lack openat2, and old seccomp filters refuse unknown calls.
        if (errno == ENOSYS || errno == EPERM)
            has_openat2 = false;
    }
    return walk_in_root(root, path, flags);
}

// Resolves a path below `root`. Neither links nor `..` lead out of it.
class root_walk
{
public:
    explicit root_walk(int root) : root_(root) {}

    unique_fd open(std::string path, int flags)
    {
        if (!enter_root() || ::fstat(current_.get(), &top_) != 0)
            return {};
        for (remaining_ = std::move(path);;) {
            const std::string name = next();
            if (name.empty())
                return opened(::openat(current_.get(), ".", flags | O_CLOEXEC));
            if (name == ".." ? !ascend() : !descend(name, flags))
                return std::move(result_);
        }
    }

private:
    // Returns the next component other than `.`; empty at the end of the path.
    std::string next()
    {
        for (;;) {
            remaining_.erase(0, remaining_.find_first_not_of('/'));
            const std::string name = remaining_.substr(0, remaining_.find('/'));
            remaining_.erase(0, name.size());
            if (name != ".")
                return name;
        }
    }

    // Opens the next component. False if the walk has ended; `result_` is then its result, empty on failure.
    bool descend(const std::string& name, int flags)
    {
        const bool last = remaining_.empty(); // false for `name/`, which requires a directory
        unique_fd found = opened(::openat(current_.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        if (!found)
            return false;
        if (S_ISLNK(status_.st_mode) && !(last && (flags & O_NOFOLLOW) != 0))
            return follow(found.get());
        if (last) {
            result_ = opened(::openat(current_.get(), name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC));
            return false;
        }
        if (!S_ISDIR(status_.st_mode))
            return fail(ENOTDIR);
        current_ = std::move(found);
        ancestors_.push_back(name);
        return true;
    }

    bool follow(int link)
    {
        std::array<char, PATH_MAX> target;
        const ssize_t size = ::readlinkat(link, "", target.data(), target.size());
        if (size <= 0)
            return fail(size < 0 ? errno : ENOENT);
        if (++links_ > 40)
            return fail(ELOOP);
        remaining_.insert(0, std::string(target.data(), static_cast<std::size_t>(size)) + "/");
        if (target[0] != '/')
            return true;
        ancestors_.clear();
        return enter_root();
    }

    // Descends again from the root instead of opening `..`: a concurrently moved directory may have its parent outside of the root.
    bool ascend()
    {
        if (ancestors_.empty())
            return true;
        ancestors_.pop_back();
        if (!enter_root())
            return false;
        for (const std::string& name : ancestors_) {
            current_ = opened(::openat(current_.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!current_)
                return false;
        }
        return true;
    }

    bool enter_root()
    {
        current_.reset(::openat(root_, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
        return static_cast<bool>(current_);
    }

    // Refuses other file systems than the root's. The number of steps is limited, because links can multiply them.
    unique_fd opened(int fd)
    {
        unique_fd out(fd);
        if (!out || ::fstat(out.get(), &status_) != 0)
            return {};
        if (status_.st_dev == top_.st_dev && ++steps_ <= 100'000)
            return out;
        out.reset();
        errno = status_.st_dev == top_.st_dev ? ELOOP : EXDEV;
        return out;
    }

    static bool fail(int number)
    {
        errno = number;
        return false;
    }

    int root_;
    struct stat top_{}, status_{}; // of the root, and of the file opened last
    unique_fd current_, result_;
    std::vector<std::string> ancestors_; // names of the directories from the root down to `current_`
    std::string remaining_;
    int links_ = 0, steps_ = 0;
};

OVERMOUNT_DECL unique_fd walk_in_root(int root, const std::string& path, int flags)
{
    return root_walk(root).open(path, flags);
}

OVERMOUNT_DECL void make_directory(int parent, const std::string& name, mode_t mode)
{
    if (::mkdirat(parent, name.c_str(), mode) != 0 && errno != EEXIST)
        throw_errno("mkdir", name);
}

OVERMOUNT_DECL bool exists(int parent, const std::string& name)
{
    struct stat status;
    if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    if (errno != ENOENT)
        throw_errno("stat", name);
    return false;
}

struct close_directory
{
    void operator()(DIR* stream) const noexcept { ::closedir(stream); }
};
using directory_stream = std::unique_ptr<DIR, close_directory>;

inline directory_stream stream_of(unique_fd fd)
{
    directory_stream stream(::fdopendir(fd.get()));
    if (!stream)
        throw_errno("fdopendir");
    [[maybe_unused]] const int owned_by_stream = fd.release();
    return stream;
}

// Returns the next entry other than `.` and `..`; null at the end.
inline const dirent* next_entry(DIR* stream)
{
    for (;;) {
        errno = 0;
        const dirent* found = ::readdir(stream);
        if (found == nullptr && errno != 0)
            throw_errno("readdir");
        if (found == nullptr)
            return nullptr;
        const std::string_view name = found->d_name;
        if (name != "." && name != "..")
            return found;
    }
}

OVERMOUNT_DECL std::vector<std::string> list_directory(int parent, const std::string& name)
{
    std::vector<std::string> names;
    const directory_stream stream = stream_of(open_directory(parent, name));
    while (const dirent* found = next_entry(stream.get()))
        names.emplace_back(found->d_name);
    return names;
}

OVERMOUNT_DECL std::optional<std::vector<std::string>> list_small_directory(int parent, const std::string& name,
                                                                                 std::size_t most)
{
    unique_fd fd(::openat(parent, name.empty() ? "." : name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd)
        return std::nullopt;
    std::vector<std::string> names;
    try {
        const directory_stream stream = stream_of(std::move(fd));
        while (const dirent* found = next_entry(stream.get())) {
            if (names.size() == most)
                return std::nullopt;
            names.emplace_back(found->d_name);
        }
    } catch (const error&) { // callers then look up single names instead
        return std::nullopt;
    }
    return names;
}

OVERMOUNT_DECL std::size_t read_some(int fd, std::span<std::byte> into, const char* operation, std::string_view subject)
{
    const ssize_t count = uninterrupted([&] { return ::read(fd, into.data(), into.size()); });
    if (count < 0)
        throw_errno(operation, subject);
    return static_cast<std::size_t>(count);
}

OVERMOUNT_DECL std::size_t read_some_at(int fd, std::uint64_t offset, std::span<std::byte> into)
{
    const ssize_t count =
        uninterrupted([&] { return ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset)); });
    if (count < 0)
        throw_errno("read");
    return static_cast<std::size_t>(count);
}

OVERMOUNT_DECL void write_all(int fd, std::span<const std::byte> bytes, const char* operation)
{
    while (!bytes.empty()) {
        const ssize_t written = uninterrupted([&] { return ::write(fd, bytes.data(), bytes.size()); });
        if (written < 0)
            throw_errno(operation);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

OVERMOUNT_DECL std::optional<std::string> read_file(int parent, const std::string& name, std::uint64_t limit)
{
    const unique_fd fd(::openat(parent, name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd && errno == ENOENT)
        return std::nullopt;
    checked(fd.get(), "open", name);
    std::string content;
    std::array<char, 16384> piece;
    for (;;) {
        const std::size_t count = read_some(fd.get(), std::as_writable_bytes(std::span(piece)), "read", name);
        if (count == 0)
            return content;
        content.append(piece.data(), count);
        if (content.size() > limit) {
            errno = EFBIG;
            throw_errno("read", name);
        }
    }
}

OVERMOUNT_DECL void write_file(int parent, const std::string& name, std::string_view content)
{
    const unique_fd fd(checked(
        ::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600), "create", name));
    write_all(fd.get(), std::as_bytes(std::span(content)));
}

OVERMOUNT_DECL mode_t by_umask_of_process(mode_t mode)
{
    // The umask of the first thread. Without a line `Umask`, only the caller's own umask applies, as for any file.
    const std::string status = read_file(AT_FDCWD, "/proc/self/status", 1 << 20).value_or("");
    constexpr std::string_view key = "\nUmask:\t";
    unsigned umask = 0;
    if (const auto at = status.find(key); at != std::string::npos)
        std::from_chars(status.data() + at + key.size(), status.data() + status.size(), umask, 8);
    return mode & ~umask;
}

OVERMOUNT_DECL std::string from_working_directory(const std::string& path)
{
    if (path.empty() || path.starts_with('/'))
        return path;
    // /proc/self refers to the first thread. If that thread has ended, or without /proc, use the caller's working directory.
    constexpr const char* link = "/proc/self/cwd";
    struct stat by_link, by_text;
    if (::stat(link, &by_link) != 0)
        return path;
    std::array<char, PATH_MAX> text;
    const ssize_t size = ::readlink(link, text.data(), text.size());
    const std::string directory(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    // The link's text is wrong if the directory was removed or cannot be reached by its path: then go through the link itself.
    const bool same = size > 0 && static_cast<std::size_t>(size) < text.size() && ::stat(directory.c_str(), &by_text) == 0 &&
                      by_text.st_dev == by_link.st_dev && by_text.st_ino == by_link.st_ino;
    return (same ? directory : link) + "/" + path;
}

OVERMOUNT_DECL bool rename_into_place(int from, const std::string& name, int to, const std::string& new_name)
{
    if (::renameat2(from, name.c_str(), to, new_name.c_str(), RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EEXIST)
        throw_errno("rename", new_name);
    return false;
}

OVERMOUNT_DECL void rename_over(int from, const std::string& name, int to, const std::string& new_name)
{
    checked(::renameat(from, name.c_str(), to, new_name.c_str()), "rename", new_name);
}

OVERMOUNT_DECL void sync_directory(int fd) { checked(::fsync(fd), "fsync directory"); }

// Returns the allocated bytes that unlinking a name frees.
inline std::uint64_t bytes_freed_by_unlink(int directory, const char* name)
{
    struct stat status;
    if (::fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0 || (!S_ISDIR(status.st_mode) && status.st_nlink > 1))
        return 0;
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

// Unlinks a name like unlinkat(2) and adds the freed bytes to `freed`.
inline bool unlink_counted(int directory, const char* name, int flags, std::uint64_t* freed)
{
    const std::uint64_t bytes = freed != nullptr ? bytes_freed_by_unlink(directory, name) : 0;
    if (::unlinkat(directory, name, flags) != 0)
        return false;
    if (freed != nullptr)
        *freed += bytes;
    return true;
}

// Empties one directory: unlinks files, removes empty directories, and moves other directories into `trash`.
inline void empty_directory(int directory, int trash, std::vector<std::string>& moved,
                                           const std::function<void(ino_t)>& on_directory, std::uint64_t* freed)
{
    const directory_stream stream = stream_of(open_directory(directory, "."));
    while (const dirent* found = next_entry(stream.get())) {
        if (on_directory && found->d_type == DT_DIR)
            on_directory(found->d_ino);
        if (found->d_type != DT_DIR && (unlink_counted(directory, found->d_name, 0, freed) || errno == ENOENT))
            continue;
        if (unlink_counted(directory, found->d_name, AT_REMOVEDIR, freed) || errno == ENOENT)
            continue;
        if (errno == ENOTDIR && unlink_counted(directory, found->d_name, 0, freed))
            continue;
        if (errno != ENOTEMPTY && errno != EEXIST)
            throw_errno("remove", found->d_name);
        const std::string name = "trash-" + random_id();
        if (::renameat(directory, found->d_name, trash, name.c_str()) == 0)
            moved.push_back(name);
        else if (errno != ENOENT)
            throw_errno("rename", found->d_name);
    }
}

OVERMOUNT_DECL void remove_tree(int parent, const std::string& name, int trash,
                                     const std::function<void(ino_t)>& on_directory, std::uint64_t* freed)
{
    if (unlink_counted(parent, name.c_str(), 0, freed) || errno == ENOENT)
        return;
    if (errno != EISDIR && errno != EPERM)
        throw_errno("unlink", name);
    struct stat status;
    // ENOENT is no error: a sweep of another process may remove the same tree.
    std::vector<std::string> todo{"trash-" + random_id()};
    if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        ::renameat(parent, name.c_str(), trash, todo.back().c_str()) != 0) {
        if (errno == ENOENT)
            return;
        throw_errno("rename", name);
    }
    if (on_directory)
        on_directory(status.st_ino);
    while (!todo.empty()) {
        const std::string next = std::move(todo.back());
        todo.pop_back();
        // An unprivileged owner cannot open a directory with a mode such as 0000. If chmod fails, so does the next call.
        if (::geteuid() != 0)
            [[maybe_unused]] const int ignored = ::fchmodat(trash, next.c_str(), 0700, 0);
        const unique_fd level(::openat(trash, next.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
        if (!level && errno == ENOENT)
            continue;
        checked(level.get(), "open directory", next);
        empty_directory(level.get(), trash, todo, on_directory, freed);
        if (!unlink_counted(trash, next.c_str(), AT_REMOVEDIR, freed) && errno != ENOENT)
            throw_errno("rmdir", next);
    }
}

OVERMOUNT_DECL draft::~draft()
{
    if (parent_ < 0)
        return;
    try {
        remove_tree(parent_, name_, parent_);
    } catch (const std::exception&) {
        // Report the original failure, not this one.
    }
}

OVERMOUNT_DECL bool try_lock_bytes(int fd, short type, std::int64_t first, std::int64_t count)
{
    struct flock request{};
    request.l_type = type;
    request.l_whence = SEEK_SET;
    request.l_start = first;
    request.l_len = count;
    if (uninterrupted([&] { return ::fcntl(fd, F_OFD_SETLK, &request); }) == 0)
        return true;
    if (errno != EAGAIN && errno != EACCES)
        throw_errno("lock");
    return false;
}

OVERMOUNT_DECL bool is_locked(int fd, std::int64_t first, std::int64_t count)
{
    struct flock asked{};
    asked.l_type = F_WRLCK;
    asked.l_whence = SEEK_SET;
    asked.l_start = first;
    asked.l_len = count;
    checked(::fcntl(fd, F_OFD_GETLK, &asked), "lock");
    return asked.l_type != F_UNLCK;
}

inline unique_fd open_lock(int parent, const std::string& name)
{
    return unique_fd(
        checked(::openat(parent, name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), "open", name));
}

OVERMOUNT_DECL std::optional<file_lock> file_lock::try_exclusive(int parent, const std::string& name)
{
    for (;;) {
        unique_fd fd = open_lock(parent, name);
        if (!try_lock_bytes(fd.get(), F_WRLCK, 0, 0))
            return std::nullopt;
        // The previous owner may have removed the file between our open and our lock: then the file has no name, and we retry.
        struct stat status;
        checked(::fstat(fd.get(), &status), "stat", name);
        if (status.st_nlink != 0)
            return file_lock(std::move(fd));
    }
}

OVERMOUNT_DECL void remove_unlocked(int directory)
{
    for (const std::string& name : list_directory(directory, "."))
        if (const auto lock = file_lock::try_exclusive(directory, name))
            checked(::unlinkat(directory, name.c_str(), 0), "unlink", name);
}

OVERMOUNT_DECL std::string random_id()
{
    std::array<unsigned char, 16> bytes;
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        throw_errno("getrandom");
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (const unsigned char byte : bytes)
        out += {digits[byte >> 4], digits[byte & 15]};
    return out;
}

OVERMOUNT_DECL std::string boot_id()
{
    auto text = read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 100).value_or("");
    while (!text.empty() && text.back() == '\n')
        text.pop_back();
    return text;
}

OVERMOUNT_DECL std::string percent_encode(std::string_view bytes)
{
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte > 0x20 && byte < 0x7f && c != '%' && c != '"' && c != '\\')
            out += c;
        else
            out += {'%', digits[byte >> 4], digits[byte & 15]};
    }
    return out;
}

OVERMOUNT_DECL std::string percent_decode(std::string_view text)
{
    const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && i + 2 < text.size()) {
            out += static_cast<char>(value(text[i + 1]) * 16 + value(text[i + 2]));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
