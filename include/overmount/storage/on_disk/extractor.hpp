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

namespace overmount::inline OVERMOUNT_ABI::detail {

// What an unpacked diff says of itself beside its tree, for the correction of chains that use it.
struct tree_notes
{
    std::vector<std::string> implied;     // directories without an entry of their own, whose attributes lie below
    std::vector<std::string> whiteout_directories; // directories that hold whiteouts
    bool implied_root = true;             // no entry for the root itself
    bool opaque_root = false;
    bool skipped_xattrs = false;          // some had no place here: unknown, or the file system has none
};

// Writes tar entries as one overlayfs layer below a directory. All calls name a single component below a
// descriptor of its parent, which is resolved inside the root: nothing outside can be reached. What the layer
// says of a name twice, the last entry wins. Not thread-safe; one worker at a time.
//
// Directories get their attributes in `finish`, after all their children.
class extractor
{
public:
    // `root` is empty; `beside` is a directory on the same file system, such as the one that `root` is in: what goes
    // passes through it, under random names. Both outlive this.
    OVERMOUNT_LAZY extractor(int root, int beside, const limits& bounds, bool sync_files);

    // What is left to do for files from now on is put there instead of being done; it lives until the next call. All of it is
    // done, in this order, before `finish`, or before something is done at once again.
    void leave_to(unfinished_files& list) noexcept { later_ = &list; }
    void do_at_once() noexcept { later_ = &at_once_; }

    // What has files in it and must go, because a later entry takes its place, is kept in `aside`, which is made beside
    // the root when it is needed: as `0`, `1` and so on. `on_aside` hears the path that it had.
    OVERMOUNT_LAZY void keep_replaced(std::function<void(std::string_view)> on_aside);

    OVERMOUNT_LAZY void begin(const tar::entry& entry);
    OVERMOUNT_LAZY void data(std::uint64_t offset, std::span<const std::byte> bytes);
    OVERMOUNT_LAZY void end();
    // The file in the tree that the data of the entry at hand go to, its path without links; empty when none does.
    [[nodiscard]] std::string_view file_path() const noexcept
    {
        return file_ ? std::string_view(file_path_) : std::string_view();
    }
    OVERMOUNT_LAZY [[nodiscard]] tree_notes finish();

private:
    // One for each directory of the layer: at most 128 bytes beside its path.
    struct directory
    {
        std::string path;
        std::unique_ptr<const std::vector<tar::xattr>> xattrs; // mostly none
        tar::timestamp mtime;
        std::uint32_t uid = 0, gid = 0;
        std::uint16_t mode = 0755;
        bool has_entry = false; // else its attributes are those of the layers below
        bool opaque = false;
        bool cut = false;       // took the place of something: nothing of the layers below counts
        bool whiteouts = false; // has held some
    };
    struct cached_parent
    {
        std::string path; // as archives write it
        ino_t inode = 0;
        unique_fd fd;
        std::uint64_t used = 0;
    };

    OVERMOUNT_LAZY int parent(const std::string& path);
    OVERMOUNT_LAZY [[nodiscard]] cached_parent* known_parent(const std::string& path) noexcept;
    OVERMOUNT_LAZY int keep_parent(const std::string& path, ino_t inode, unique_fd fd);
    OVERMOUNT_LAZY unique_fd make_parents(const std::string& path);
    OVERMOUNT_LAZY unique_fd make_implied(int above, const std::string& name);
    OVERMOUNT_LAZY [[nodiscard]] std::string path_below(ino_t above, const std::string& name);

    OVERMOUNT_LAZY void put_directory(int above, const std::string& name, const std::string& path);
    OVERMOUNT_LAZY void note_directory(ino_t inode, std::string path, bool cut);
    OVERMOUNT_LAZY void put_file(int above, const std::string& name);
    OVERMOUNT_LAZY void look_at_mode(mode_t mode);
    OVERMOUNT_LAZY void put_symbolic_link(int above, const std::string& name);
    OVERMOUNT_LAZY void put_hard_link(int above, const std::string& name);
    OVERMOUNT_LAZY void put_node(int above, const std::string& name);
    OVERMOUNT_LAZY void put_whiteout(int above, const std::string& name);
    OVERMOUNT_LAZY void put_opaque();

    // Makes a thing, and room for it first where something is there.
    template <class Make>
    void replace(int above, const std::string& name, Make make);
    OVERMOUNT_LAZY void make_room(int above, const std::string& name);
    OVERMOUNT_LAZY [[nodiscard]] bool look_through(int above, const std::string& name, std::vector<ino_t>& inodes) const;
    OVERMOUNT_LAZY void set_owner_and_times(int above, const std::string& name);
    OVERMOUNT_LAZY void finish_node(int above, const std::string& name);
    void note_skipped(bool skipped) noexcept
    {
        if (skipped)
            skipped_xattrs_ = true;
    }
    OVERMOUNT_LAZY void finish_directory(ino_t inode, const directory& made);
    OVERMOUNT_LAZY void drop_needless_whiteouts();

    int root_, beside_;
    unique_fd aside_;
    std::function<void(std::string_view)> on_aside_;
    std::uint64_t asides_ = 0;
    limits bounds_;
    bool sync_files_;
    uid_t our_uid_;
    gid_t our_gid_;
    ino_t root_inode_ = 0;
    ino_t above_ = 0; // the parent at hand

    const tar::entry* entry_ = nullptr;
    unique_fd file_;
    std::string file_path_;
    bool has_mode_ = false;       // the file, since it was made
    bool exact_modes_hold_ = true; // here: a file system may cut the mode, or add to it
    bool mode_seen_ = false;
    mode_t bits_seen_ = 0;        // of modes that came out as they were given

    std::vector<cached_parent> parents_;
    std::uint64_t clock_ = 0;
    std::unordered_map<ino_t, directory> directories_; // all that there are, under their own paths
    std::uint64_t implied_ = 0, path_bytes_ = 0; // against their limits
    bool whiteouts_ = false; // there have been some
    std::atomic<bool> skipped_xattrs_ = false;

    unfinished_files at_once_;
    unfinished_files* later_ = &at_once_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/extractor.ipp>
#endif

#endif
