// File system calls relative to a directory descriptor. They throw overmount::error with the name of the failed call.
#ifndef OVERMOUNT_POSIX_FS_HPP
#define OVERMOUNT_POSIX_FS_HPP

#include <overmount/core/error.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/runtime/thread_attributes.hpp>

#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Throws the current errno as the error of `operation`.
[[noreturn]] void throw_errno(const char* operation, std::string_view subject = {});

// Returns the `result` of a system call; throws errno if it is negative.
inline int checked(int result, const char* operation, std::string_view subject = {})
{
    if (result < 0)
        throw_errno(operation, subject);
    return result;
}

// Repeats a system call while it fails with EINTR. Returns its last result.
template <class Call>
auto uninterrupted(const Call& call)
{
    for (;;)
        if (const auto result = call(); result >= 0 || errno != EINTR)
            return result;
}

[[nodiscard]] unique_fd open_directory(int parent, const std::string& name);
// Opens `path` as a process chrooted to `root` would. Symbolic links are followed inside `root`; magic links and other file
// systems are refused. On failure it returns an empty unique_fd and sets errno.
[[nodiscard]] unique_fd open_in_root(int root, const std::string& path, int flags);
// Like `open_in_root` without openat2(2): opens one component at a time and reads the links itself, at most 40 of them.
[[nodiscard]] unique_fd walk_in_root(int root, const std::string& path, int flags);
// Cleared by the first call that finds openat2 missing or forbidden, and by tests.
inline std::atomic<bool> has_openat2{true};

// Creates the directory unless it exists.
void make_directory(int parent, const std::string& name, mode_t mode);
[[nodiscard]] bool exists(int parent, const std::string& name);
[[nodiscard]] std::vector<std::string> list_directory(int parent, const std::string& name);
// nullopt if the directory has more than `most` entries or cannot be read.
[[nodiscard]] std::optional<std::vector<std::string>>
list_small_directory(int parent, const std::string& name, std::size_t most);

// Reads at most `into.size()` bytes; returns 0 at the end. read_some_at reads at `offset` and does not move the file's offset.
[[nodiscard]] std::size_t read_some(int fd, std::span<std::byte> into, const char* operation = "read",
                                                   std::string_view subject = {});
[[nodiscard]] std::size_t read_some_at(int fd, std::uint64_t offset, std::span<std::byte> into);
void write_all(int fd, std::span<const std::byte> bytes, const char* operation = "write");
// Reads the whole file. Throws EFBIG if it is larger than `limit` bytes. nullopt if it does not exist.
[[nodiscard]] std::optional<std::string> read_file(int parent, const std::string& name, std::uint64_t limit);
void write_file(int parent, const std::string& name, std::string_view content);

// Applies the umask of the process to `mode`, on any thread. For files outside of the repository: workers have their own umask.
[[nodiscard]] mode_t by_umask_of_process(mode_t mode);

// Resolves a relative path against the working directory of the process, on any thread: workers have their own working directory.
[[nodiscard]] std::string from_working_directory(const std::string& path);

// Renames a finished file or directory to its final name. Returns false if that name already exists.
bool rename_into_place(int from, const std::string& name, int to, const std::string& new_name);
void rename_over(int from, const std::string& name, int to, const std::string& new_name);
void sync_directory(int fd);

// Removes `name` below `parent` recursively, to any depth, with at most three descriptors: it moves subdirectories into `trash`, a
// directory on the same file system. It calls `on_directory` with the inode of each removed directory, and adds the allocated
// bytes that it frees to `freed`; a file counts when its last link is removed.
void remove_tree(int parent, const std::string& name, int trash,
                                const std::function<void(ino_t)>& on_directory = {}, std::uint64_t* freed = nullptr);

// Returns 32 random hex digits, unique across processes.
[[nodiscard]] std::string random_id();

// The temporary name of a file or directory that is renamed to its final name when it is finished. Unless `moved` is called, the
// destructor removes it; if that fails, a later sweep does.
class draft
{
public:
    draft(int parent, const std::string& kind) : parent_(parent), name_(kind + random_id()) {}
    draft(const draft&) = delete;
    draft& operator=(const draft&) = delete;
    ~draft();

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    void moved() noexcept { parent_ = -1; }

private:
    int parent_;
    std::string name_;
};

// Holds an exclusive lock on a file while it exists. It is an open-file-description lock, so that it also excludes other handles
// in the same process. See fcntl(2), "Open file description locks".
class file_lock
{
public:
    file_lock() = default;
    // Creates the file if it is missing. nullopt if another holder has the lock.
    static std::optional<file_lock> try_exclusive(int parent, const std::string& name);

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

private:
    explicit file_lock(unique_fd fd) noexcept : fd_(std::move(fd)) {}
    unique_fd fd_;
};

// Removes each file of the directory that nobody has locked: its owner is dead.
void remove_unlocked(int directory);

// Tries to lock or unlock a byte range of an open file (open-file-description lock). `type` is F_RDLCK, F_WRLCK or F_UNLCK. Returns
// false if a conflicting lock exists.
[[nodiscard]] bool try_lock_bytes(int fd, short type, std::int64_t first, std::int64_t count);

// Whether another open file description has a lock in this byte range of the file. A `count` of 0 means up to the end of the file.
[[nodiscard]] bool is_locked(int fd, std::int64_t first = 0, std::int64_t count = 0);

// The ID of the current boot; empty if the kernel does not provide it.
[[nodiscard]] std::string boot_id();

// Encodes bytes for a JSON string, with `%`, `"`, `\`, spaces and all bytes that are not printable ASCII as %xx, and decodes them.
[[nodiscard]] std::string percent_encode(std::string_view bytes);
[[nodiscard]] std::string percent_decode(std::string_view text);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/posix/impl/fs.ipp>
#endif

#endif
