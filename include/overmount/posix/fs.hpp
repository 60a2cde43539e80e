// Files and directories below a descriptor: thin calls that throw overmount::error with the name of the call.
#ifndef OVERMOUNT_POSIX_FS_HPP
#define OVERMOUNT_POSIX_FS_HPP

#include <overmount/core/error.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/runtime/thread_attributes.hpp>

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Throws what errno says of `operation`.
OVERMOUNT_LAZY [[noreturn]] void throw_errno(const char* operation, std::string_view subject = {});

// Throws unless `result` of a call is not negative; passes it on.
inline int check(int result, const char* operation, std::string_view subject = {})
{
    if (result < 0)
        throw_errno(operation, subject);
    return result;
}

OVERMOUNT_LAZY [[nodiscard]] unique_fd open_directory(int parent, const std::string& name);
// Resolves `path` as a process chrooted to `root` would; links inside count, magic links and other file
// systems are refused. Returns no descriptor, and errno, when that fails.
OVERMOUNT_LAZY [[nodiscard]] unique_fd open_in_root(int root, const std::string& path, int flags);
// The same without openat2(2): each component by itself, links by their text, 40 of them at most.
OVERMOUNT_LAZY [[nodiscard]] unique_fd walk_in_root(int root, const std::string& path, int flags);
// Cleared by the first call that finds openat2 missing or forbidden; tests clear it as well.
inline std::atomic<bool> has_openat2{true};

// Makes the directory, or finds it there.
OVERMOUNT_LAZY void make_directory(int parent, const std::string& name, mode_t mode);
OVERMOUNT_LAZY [[nodiscard]] bool exists(int parent, const std::string& name);
OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> list_directory(int parent, const std::string& name);
// Nothing where it holds more than `most`, or cannot be read.
OVERMOUNT_LAZY [[nodiscard]] std::optional<std::vector<std::string>>
list_small_directory(int parent, const std::string& name, std::size_t most);

OVERMOUNT_LAZY void write_all(int fd, std::span<const std::byte> bytes, const char* operation = "write");
// The whole file; an error when it is larger than `limit` bytes. Nothing when there is no such file.
OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> read_file(int parent, const std::string& name, std::uint64_t limit);
OVERMOUNT_LAZY void write_file(int parent, const std::string& name, std::string_view content);

// What the umask of the process leaves of a mode, whichever thread asks: for what is not of the repository.
OVERMOUNT_LAZY [[nodiscard]] mode_t by_umask_of_process(mode_t mode);

// A path that counts from the working directory of the process, whichever thread asks: workers have their own.
OVERMOUNT_LAZY [[nodiscard]] std::string from_working_directory(const std::string& path);

// Moves a finished thing to its place. False when something is there already.
OVERMOUNT_LAZY bool rename_into_place(int from, const std::string& name, int to, const std::string& new_name);
OVERMOUNT_LAZY void rename_over(int from, const std::string& name, int to, const std::string& new_name);
OVERMOUNT_LAZY void sync_directory(int fd);

// Removes `name` below `parent` with all it holds, however deep, with three descriptors: directories are moved
// up into `trash`, a directory on the same file system. `on_directory` hears the inode of each removed one. `freed` grows by
// the bytes that were allocated for what is gone: for a file, when its last name goes.
OVERMOUNT_LAZY void remove_tree(int parent, const std::string& name, int trash,
                                const std::function<void(ino_t)>& on_directory = {}, std::uint64_t* freed = nullptr);

// 32 hex digits that no other process will come up with.
OVERMOUNT_LAZY [[nodiscard]] std::string random_id();

// The name of a file or directory that is being made, and then moved to its place; what stays behind is removed, and
// otherwise left to a sweep.
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

// A file that is locked as long as this lives (open-file-description lock, so also between handles of one
// process). See fcntl(2), "Open file description locks".
class file_lock
{
public:
    file_lock() = default;
    // Makes the file if need be; nothing when another holds the lock.
    OVERMOUNT_LAZY static std::optional<file_lock> try_exclusive(int parent, const std::string& name);

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

private:
    explicit file_lock(unique_fd fd) noexcept : fd_(std::move(fd)) {}
    unique_fd fd_;
};

// Removes each file of the directory whose lock can be had: its owner is dead.
OVERMOUNT_LAZY void remove_unlocked(int directory);

// Tries to lock bytes of an open file (open-file-description lock), or gives them up: `type` is F_RDLCK, F_WRLCK or F_UNLCK.
// False when another has them.
OVERMOUNT_LAZY [[nodiscard]] bool try_lock_bytes(int fd, short type, std::int64_t first, std::int64_t count);

// Whether somebody has a lock of these bytes of an open file, by another open file description; 0 stands for all from the first on.
OVERMOUNT_LAZY [[nodiscard]] bool is_locked(int fd, std::int64_t first = 0, std::int64_t count = 0);

// Names this boot of the machine; empty where the kernel does not tell.
OVERMOUNT_LAZY [[nodiscard]] std::string boot_id();

// Bytes as a JSON string can hold them: `%` and all that is not printable ASCII as %xx, and back.
OVERMOUNT_LAZY [[nodiscard]] std::string percent_encode(std::string_view bytes);
OVERMOUNT_LAZY [[nodiscard]] std::string percent_decode(std::string_view text);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/posix/impl/fs.ipp>
#endif

#endif
