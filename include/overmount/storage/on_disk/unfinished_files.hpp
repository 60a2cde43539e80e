#ifndef OVERMOUNT_STORAGE_ON_DISK_UNFINISHED_FILES_HPP
#define OVERMOUNT_STORAGE_ON_DISK_UNFINISHED_FILES_HPP

#include <overmount/posix/descriptor_turn.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/tar/entry.hpp>
#include <overmount/tar/xattr_rules.hpp>

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Sets each by a call of `set`, in the order in which they do not undo each other. True where some were left out since they
// have no place here: unknown, or the file system or the user namespace has none.
template <class Set>
bool set_xattrs(const std::vector<tar::xattr>& xattrs, tar::entry_type type, Set set);
OVERMOUNT_LAZY bool set_xattrs(int fd, const std::vector<tar::xattr>& xattrs, tar::entry_type type);

OVERMOUNT_LAZY [[nodiscard]] std::array<timespec, 2> times_of(const tar::timestamp& time) noexcept;

// What the end of a file is done with, beside its entry.
struct file_end
{
    std::optional<std::uint64_t> size; // where data do not give it
    bool has_owner = false, has_mode = false; // already
    bool sync = false;
    std::atomic<bool>* skipped_xattrs = nullptr; // set where some are left out
};

// What is left to do for some files of a layer that are made and open: data, then owner, mode, attributes and times. It needs
// their descriptors and nothing of the tree, so that it may be done by another worker than the one that makes the files. Some
// files at a time: each has a descriptor, half of a turn's in all. The memory of a list is used again.
class unfinished_files
{
public:
    // The bytes live until `run`, the descriptor until the end of the file, which takes it.
    OVERMOUNT_LAZY void data(const std::string& entry, int fd, std::uint64_t offset, std::span<const std::byte> bytes);
    OVERMOUNT_LAZY void end(const tar::entry& entry, unique_fd&& fd, const file_end& what);

    [[nodiscard]] bool full() const noexcept { return ends_ == most_files || size_ == most_tasks; }

    // Does all of it, in order; empty then. Throws what failed first, with the entry; the rest is dropped.
    OVERMOUNT_LAZY void run();

private:
    static constexpr std::size_t most_files = descriptor_turn::descriptors / 2, most_tasks = 512;

    struct task
    {
        std::string entry;
        int fd = -1;
        std::uint64_t offset = 0;
        std::span<const std::byte> bytes;
        unique_fd ended; // the same, at the end of the file
        file_end what;
        std::uint32_t mode = 0, uid = 0, gid = 0;
        tar::timestamp mtime;
        std::vector<tar::xattr> xattrs;
    };

    OVERMOUNT_LAZY task& add(const std::string& entry, int fd);
    OVERMOUNT_LAZY static void write(const task& one);
    OVERMOUNT_LAZY static void finish(const task& one);
    OVERMOUNT_LAZY void clear() noexcept;

    std::vector<task> tasks_; // the first `size_` of them
    std::size_t size_ = 0, ends_ = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/unfinished_files.ipp>
#endif

#endif
