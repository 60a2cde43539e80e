#ifndef OVERMOUNT_STORAGE_ON_DISK_UNFINISHED_FILES_HPP
#define OVERMOUNT_STORAGE_ON_DISK_UNFINISHED_FILES_HPP

#include <overmount/posix/descriptor_budget.hpp>
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

namespace overmount::OVERMOUNT_ABI::detail {

// Sets each xattr by a call of `set`, in an order in which no call undoes an earlier one. True if some were skipped: their names are
// unknown, or the file system or the user namespace does not support them.
template <class Set>
bool set_xattrs(const std::vector<tar::xattr>& xattrs, tar::entry_type type, Set set);
bool set_xattrs(int fd, const std::vector<tar::xattr>& xattrs, tar::entry_type type);

[[nodiscard]] std::array<timespec, 2> times_of(const tar::timestamp& time) noexcept;

// What remains to be done at the end of a file, besides what its entry says.
struct finish_options
{
    std::optional<std::uint64_t> size; // set it by ftruncate, for files that may end in a hole
    bool has_owner = false, has_mode = false; // already set, when the file was created
    bool sync = false;
    std::atomic<bool>* skipped_xattrs = nullptr; // set to true if xattrs were skipped
};

// Deferred work for some files of a layer that were created and are open: their data, then owner, mode, xattrs and times. It needs
// only their descriptors and not the tree, so that another worker thread than the one that creates the files can run it. The list
// holds one descriptor for each file, at most half of a `descriptor_budget`. Its memory is reused.
class unfinished_files
{
public:
    // The bytes must stay valid until `run`, and the descriptor until `end`, which takes ownership of it.
    void data(const std::string& entry, int fd, std::uint64_t offset, std::span<const std::byte> bytes);
    void end(const tar::entry& entry, unique_fd&& fd, const finish_options& what);

    [[nodiscard]] bool full() const noexcept { return ends_ == most_files || size_ == most_tasks; }

    // Does all the work in order, and leaves the list empty. Throws the first failure, with its entry; the work after it is dropped.
    void run();

private:
    static constexpr std::size_t most_files = descriptor_budget::descriptors / 2, most_tasks = 512;

    struct task
    {
        std::string entry;
        int fd = -1;
        std::uint64_t offset = 0;
        std::span<const std::byte> bytes;
        unique_fd owned_fd; // owns `fd`, for the last task of the file
        finish_options what;
        std::uint32_t mode = 0, uid = 0, gid = 0;
        tar::timestamp mtime;
        std::vector<tar::xattr> xattrs;
    };

    task& add(const std::string& entry, int fd);
    static void write(const task& one);
    static void finish(const task& one);
    void clear() noexcept;

    std::vector<task> tasks_; // the first `size_` are in use
    std::size_t size_ = 0, ends_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/unfinished_files.ipp>
#endif

#endif
