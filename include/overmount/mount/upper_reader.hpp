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

namespace overmount::inline OVERMOUNT_ABI {

/// How an upper directory becomes a layer.
class upper_options
{
public:
    upper_options& bounds(const limits& value)
    {
        bounds_ = value;
        return *this;
    }
    /// Later times become this one, in seconds since 1970. See reproducible-builds.org, "SOURCE_DATE_EPOCH".
    upper_options& latest(std::optional<std::int64_t> seconds)
    {
        latest_ = seconds;
        return *this;
    }
    /// Whether the layers below show a directory at that path: only then an opaque one says so. By default they may.
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

/// Gives the layer tar of the upper directory of an overlay, in pieces: a model of `diff_reader`. Reads nothing but
/// that directory; whatever mounts wrote in it belongs to the overlay's xattrs `trusted.overlay.*`. The same upper
/// directory gives the same bytes.
///
/// Each directory's entry, then its opaque marker, its whiteouts and the rest, by the bytes of their names. Sockets, and
/// extended attributes that no unpacked layer would have, are left out. Sparse files are plain data.
/// *Errors*: `invalid_whiteout` for a name that starts with `.wh.`; `unsupported_entry_type` for what takes its content
/// from the layers below (redirect_dir, metacopy: the mounts of a repository make none); `upper_changed` where a file or
/// directory changes while it is read (what moves from a part that is not read yet to one that was is not noticed: stop who
/// writes); `path_too_long`, `path_too_deep`, `too_many_entries`, `layer_too_large`, `xattr_too_large`; EPERM for who
/// may not see `trusted` xattrs, and other errno values. All but that name the entry. See overlayfs.rst, "whiteouts and opaque directories", and OCI
/// image spec, layer.md, "Representing Changes".
class upper_reader
{
public:
    /// \param upper the upper directory, open for reading
    OVERMOUNT_LAZY upper_reader(unique_fd upper, upper_options options);

    /// At least one byte; 0 at the end and from then on.
    OVERMOUNT_LAZY [[nodiscard]] std::size_t read(std::span<std::byte> into);

private:
    using inode = std::pair<dev_t, ino_t>;
    struct item
    {
        bool stays; // false for a whiteout: those come first
        std::string name;
        friend auto operator<=>(const item&, const item&) = default;
    };
    struct level
    {
        struct stat status;
        std::string path; // with a slash at its end, but for the root
        bool hides;       // all that the layers below have there
        std::vector<item> items = {};
        std::size_t next = 0;
    };

    OVERMOUNT_LAZY void advance();
    OVERMOUNT_LAZY void add(const item& one);
    OVERMOUNT_LAZY void add_whiteout(const std::string& path);
    OVERMOUNT_LAZY void add_directory(unique_fd opened, const std::string& path);
    OVERMOUNT_LAZY
    void add_file(unique_fd opened, const struct stat& status, const std::string& path, tar::entry made);
    OVERMOUNT_LAZY [[nodiscard]] std::vector<item> list(const std::string& path, const std::string& opaque);
    OVERMOUNT_LAZY
    [[nodiscard]] bool is_whiteout(const std::string& name, unsigned char type, const std::string& opaque) const;
    OVERMOUNT_LAZY void leave();
    OVERMOUNT_LAZY void write(const tar::entry& made);
    OVERMOUNT_LAZY [[nodiscard]] std::size_t read_file(std::span<std::byte> into);

    unique_fd directory_; // of the last level
    upper_options options_;
    std::vector<level> levels_;
    std::map<inode, std::string> first_names_; // of files that have several
    std::uint64_t entries_ = 0, bytes_ = 0, listed_ = 0, path_bytes_ = 0;
    bool begun_ = false;

    std::string pending_; // headers and padding
    std::size_t given_ = 0;
    unique_fd file_; // whose data comes next
    struct stat file_status_ = {};
    std::uint64_t left_ = 0;
    std::string path_; // of the entry at hand
};

/// Whether an upper directory holds nothing, and has the attributes of `shown`, the directory that would be the root
/// without it.
OVERMOUNT_LAZY [[nodiscard]] bool is_unchanged(int upper, int shown);

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/upper_reader.ipp>
#endif

#endif
