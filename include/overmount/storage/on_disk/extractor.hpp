#ifndef OVERMOUNT_STORAGE_ON_DISK_EXTRACTOR_HPP
#define OVERMOUNT_STORAGE_ON_DISK_EXTRACTOR_HPP

#include <overmount/core/limits.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/storage/on_disk/unfinished_files.hpp>
#include <overmount/tar/entry.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Properties of an unpacked diff that its tree cannot express; the correction of mounts needs them.
struct tree_notes
{
    std::vector<std::string> implied;     // directories without an entry of their own; lower layers give their attributes
    std::vector<std::string> whiteout_directories; // directories that hold whiteouts
    bool implied_root = true;             // the tar has no entry for the root
    bool opaque_root = false;
    bool skipped_xattrs = false;          // some xattrs were not stored: unknown names, or not supported by the file system
};

// Unpacks tar entries into a directory, as one overlayfs layer. Each system call gets a single path component and the descriptor of
// its parent directory, which is resolved inside the root, so that an entry cannot reach a file outside. If several entries have the
// same name, the last one wins. Not thread-safe: one worker thread at a time.
//
// `finish` sets the attributes of directories, after all their children were written.
class extractor
{
public:
    // `root` is an empty directory; `outer` is a directory on the same file system, such as the parent of `root`, into which trees
    // are renamed, under random names, before they are removed. Both descriptors outlive this object.
    extractor(int root, int outer, const limits& bounds, bool sync_files);

    // Adds the remaining work for files to `list` from now on, instead of doing it. `list` must stay valid until the next call of
    // this function or of `write_immediately`. The caller runs all deferred work, in the same order, before it calls `finish` or
    // `write_immediately`.
    void defer_to(unfinished_files& list) noexcept { deferred_ = &list; }
    void write_immediately() noexcept { deferred_ = &immediate_; }

    // Keeps regular files, and directories that contain any, when a later entry replaces them: moves them to `aside/0`, `aside/1` and
    // so on. The directory `aside` is created in `outer` when it is needed. `on_aside` is called with the former path.
    void keep_replaced(std::function<void(std::string_view)> on_aside);

    void begin(const tar::entry& entry);
    void data(std::uint64_t offset, std::span<const std::byte> bytes);
    void end();
    // The path, without symbolic links, of the file that takes the data of the current entry; empty if there is none.
    [[nodiscard]] std::string_view file_path() const noexcept
    {
        return file_ ? std::string_view(file_path_) : std::string_view();
    }
    [[nodiscard]] tree_notes finish();

private:
    // Pending attributes of one directory of the layer: at most 128 bytes besides its path.
    struct directory
    {
        std::string path;
        std::unique_ptr<const std::vector<tar::xattr>> xattrs; // null for none, as most directories have
        tar::timestamp mtime;
        std::uint32_t uid = 0, gid = 0;
        std::uint16_t mode = 0755;
        bool has_entry = false; // else lower layers give its attributes
        bool opaque = false;
        bool replaced = false;  // it replaced a whiteout or a file, so lower layers do not give its attributes
        bool whiteouts = false; // whiteouts were created in it
    };
    struct cached_parent
    {
        std::string path; // as the archive spells it, maybe through links
        ino_t inode = 0;
        unique_fd fd;
        std::uint64_t used = 0;
    };

    int parent(const std::string& path);
    [[nodiscard]] cached_parent* known_parent(const std::string& path) noexcept;
    int keep_parent(const std::string& path, ino_t inode, unique_fd fd);
    unique_fd make_parents(const std::string& path);
    unique_fd make_implied(int above, const std::string& name);
    [[nodiscard]] std::string path_below(ino_t above, const std::string& name);

    void put_directory(int above, const std::string& name, const std::string& path);
    void note_directory(ino_t inode, std::string path, bool replaced);
    void put_file(int above, const std::string& name);
    void verify_mode(mode_t mode);
    void put_symbolic_link(int above, const std::string& name);
    void put_hard_link(int above, const std::string& name);
    void put_node(int above, const std::string& name);
    void put_whiteout(int above, const std::string& name);
    void put_opaque();

    // Calls `make` to create a file; if the name is taken, removes the old file first and calls it again.
    template <class Make>
    void replace(int above, const std::string& name, Make make);
    void make_room(int above, const std::string& name);
    [[nodiscard]] bool has_files(int above, const std::string& name, std::vector<ino_t>& inodes) const;
    void set_owner_and_times(int above, const std::string& name);
    void finish_node(int above, const std::string& name);
    void note_skipped(bool skipped) noexcept
    {
        if (skipped)
            skipped_xattrs_ = true;
    }
    void finish_directory(ino_t inode, const directory& made);
    void drop_needless_whiteouts();

    int root_, outer_;
    unique_fd aside_;
    std::function<void(std::string_view)> on_aside_;
    std::uint64_t asides_ = 0;
    limits bounds_;
    bool sync_files_;
    uid_t our_uid_;
    gid_t our_gid_;
    ino_t root_inode_ = 0;
    ino_t parent_inode_ = 0; // inode of the current entry's parent directory

    const tar::entry* entry_ = nullptr;
    unique_fd file_;
    std::string file_path_;
    bool has_mode_ = false;       // the current file was created with its final mode
    bool exact_modes_hold_ = true; // false if this file system changes the modes that open(2) is given
    bool mode_checked_ = false;
    mode_t checked_bits_ = 0;        // mode bits that the file system is known to keep

    std::vector<cached_parent> parents_;
    std::uint64_t clock_ = 0;
    std::unordered_map<ino_t, directory> directories_; // all directories of the layer, with their paths without links
    std::uint64_t implied_ = 0, path_bytes_ = 0; // counted against limits
    bool whiteouts_ = false; // the layer has whiteouts
    std::atomic<bool> skipped_xattrs_ = false;

    unfinished_files immediate_;
    unfinished_files* deferred_ = &immediate_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/extractor.ipp>
#endif

#endif
