#ifndef OVERMOUNT_MOUNT_UPPER_READER_HPP
#define OVERMOUNT_MOUNT_UPPER_READER_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/tar/entry.hpp>

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// Options for making a layer of an upper directory.
class upper_options
{
public:
    upper_options& bounds(const limits& value)
    {
        bounds_ = value;
        return *this;
    }
    /// Replaces later modification times by this one, in seconds since 1970. See reproducible-builds.org, "SOURCE_DATE_EPOCH".
    upper_options& latest(std::optional<std::int64_t> seconds)
    {
        latest_ = seconds;
        return *this;
    }
    /// A function that tells whether the layers below have a visible directory at a path. Only there an opaque directory gets an
    /// opaque marker. Without a function, each opaque directory gets one.
    upper_options& shown_below(std::function<bool(const std::string& path)> answer)
    {
        shown_below_ = std::move(answer);
        return *this;
    }

    [[nodiscard]] const limits& bounds() const noexcept { return bounds_; }
    [[nodiscard]] const std::optional<std::int64_t>& latest() const noexcept { return latest_; }
    [[nodiscard]] bool shows_below(const std::string& path) const { return !shown_below_ || shown_below_(path); }

private:
    limits bounds_;
    std::optional<std::int64_t> latest_;
    std::function<bool(const std::string&)> shown_below_;
};

/// Reads the upper directory of an overlay as a layer tar, in pieces: a model of `diff_reader`. Reads only that directory, with
/// the xattrs `trusted.overlay.*` in which overlayfs keeps its state. The same upper directory gives the same bytes.
///
/// Each directory's own entry comes first, then its opaque marker, its whiteouts and its other entries, sorted by the bytes of
/// their names. Sockets, and extended attributes that no unpacked layer has, are left out. Sparse files are written as plain data.
///
/// *Errors*: `invalid_whiteout` for a name that starts with `.wh.`; `unsupported_entry_type` for a file or directory whose
/// content is in the layers below (redirect_dir, metacopy: mounts of a repository never create these); `upper_changed` if a file
/// or directory changes while it is read (a file that is moved from a directory not read yet to one already read goes unnoticed:
/// stop all writers first); `path_too_long`, `path_too_deep`, `too_many_entries`, `layer_too_large`, `xattr_too_large`; EPERM for
/// a process that may not read `trusted` xattrs, and other errno values. All errors except EPERM name the entry.
///
/// *See*: overlayfs.rst, "whiteouts and opaque directories"; OCI image spec, layer.md, "Representing Changes".
class upper_reader
{
public:
    /// \param upper the upper directory, open for reading
    upper_reader(unique_fd upper, upper_options options);

    /// Reads at least one byte; returns 0 at the end, also when called again.
    [[nodiscard]] std::size_t read(std::span<std::byte> into);

private:
    using inode = std::pair<dev_t, ino_t>;
    struct item
    {
        bool present; // false for a whiteout, so that whiteouts are sorted first
        std::string name;
        friend auto operator<=>(const item&, const item&) = default;
    };
    struct level
    {
        struct stat status;
        std::string path; // ends with a slash; empty for the root
        bool hides_lower;       // it is in or below an opaque directory, which hides everything in the layers below
        std::vector<item> items = {};
        std::size_t next = 0;
    };

    void advance();
    void add(const item& one);
    void add_whiteout(const std::string& path);
    void add_directory(unique_fd opened, const std::string& path);
    void add_file(unique_fd opened, const struct stat& status, const std::string& path, tar::entry made);
    [[nodiscard]] std::vector<item> list(const std::string& path, const std::string& opaque);
    [[nodiscard]] bool is_whiteout(const std::string& name, unsigned char type, const std::string& opaque) const;
    void leave();
    void write(const tar::entry& made);
    [[nodiscard]] std::size_t read_file(std::span<std::byte> into);

    unique_fd directory_; // the directory of the last level
    upper_options options_;
    std::vector<level> levels_;
    std::map<inode, std::string> first_names_; // the first name of each file with hard links
    std::uint64_t entries_ = 0, bytes_ = 0, listed_ = 0, path_bytes_ = 0;
    bool begun_ = false;

    std::string pending_; // headers and padding
    std::size_t given_ = 0;
    unique_fd file_; // the file whose data comes next
    struct stat file_status_ = {};
    std::uint64_t left_ = 0;
    std::string path_; // of the current entry
};

/// True if an upper directory is empty and has the attributes of `shown`, the directory that would be the root of the mount
/// without it.
[[nodiscard]] bool is_unchanged(int upper, int shown);

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/upper_reader.ipp>
#endif

#endif
