#ifndef OVERMOUNT_MOUNT_IMPL_UPPER_READER_IPP
#define OVERMOUNT_MOUNT_IMPL_UPPER_READER_IPP

#include <overmount/mount/upper_reader.hpp>
#include <overmount/posix/impl/fs.ipp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>
#include <overmount/tar/writer.hpp>
#include <overmount/tar/xattr_rules.hpp>

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>
#include <tuple>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

[[noreturn]] inline void upper_error(errc code, const std::string& path, const char* why)
{
    throw error(code).at(stage::mount).entry(path).detail(why);
}

// A path for calls that would need a descriptor of the file: a fifo or a device must not be opened.
inline std::string by_descriptor(int directory, const std::string& name)
{
    return "/proc/self/fd/" + std::to_string(directory) + "/" + name;
}

// Reads one xattr; nullopt if the file does not have it. Asks for the size first, since most files have none.
inline std::optional<std::string> xattr_of(const std::string& file, const char* name)
{
    ssize_t size = ::lgetxattr(file.c_str(), name, nullptr, 0);
    if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
        return std::nullopt;
    std::string value(static_cast<std::size_t>(checked(static_cast<int>(size), "getxattr")), '\0');
    if (!value.empty())
        size = checked(static_cast<int>(::lgetxattr(file.c_str(), name, value.data(), value.size())), "getxattr");
    value.resize(static_cast<std::size_t>(size));
    return value;
}

// The xattrs that a layer stores, sorted by name. The limit is that of the extension header that holds them.
inline std::vector<tar::xattr> layer_xattrs(const std::string& file, tar::entry_type type, const limits& bounds)
{
    ssize_t size = ::llistxattr(file.c_str(), nullptr, 0);
    if (size == 0 || (size < 0 && errno == EOPNOTSUPP))
        return {};
    std::string names(static_cast<std::size_t>(checked(static_cast<int>(size), "listxattr")), '\0');
    size = checked(static_cast<int>(::llistxattr(file.c_str(), names.data(), names.size())), "listxattr");
    names.resize(static_cast<std::size_t>(size));
    std::vector<tar::xattr> out;
    std::uint64_t bytes = 0;
    for (const char* name = names.data(); name < names.data() + names.size(); name += std::strlen(name) + 1)
        if (tar::stores_xattr(name, type))
            if (auto value = xattr_of(file, name)) {
                bytes += std::strlen(name) + value->size() + 64;
                if (bytes > bounds.extension_bytes)
                    throw error(errc::xattr_too_large);
                out.push_back({name, std::move(*value)});
            }
    std::sort(out.begin(), out.end(), [](const tar::xattr& a, const tar::xattr& b) { return a.name < b.name; });
    return out;
}

// Makes a tar entry of a file's status; nullopt for a socket, which a tar cannot hold.
inline std::optional<tar::entry> entry_of(std::string path, const struct stat& status)
{
    tar::entry out;
    out.path = std::move(path);
    switch (status.st_mode & S_IFMT) {
    case S_IFREG: out.type = tar::entry_type::regular; break;
    case S_IFDIR: out.type = tar::entry_type::directory; break;
    case S_IFLNK: out.type = tar::entry_type::symbolic_link; break;
    case S_IFCHR: out.type = tar::entry_type::character_device; break;
    case S_IFBLK: out.type = tar::entry_type::block_device; break;
    case S_IFIFO: out.type = tar::entry_type::fifo; break;
    default: return std::nullopt;
    }
    out.mode = status.st_mode & 07777;
    out.uid = status.st_uid;
    out.gid = status.st_gid;
    out.mtime = {status.st_mtim.tv_sec, static_cast<std::uint32_t>(status.st_mtim.tv_nsec)};
    if (S_ISREG(status.st_mode))
        out.size = out.stored_size = static_cast<std::uint64_t>(status.st_size);
    if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
        out.device_major = major(status.st_rdev);
        out.device_minor = minor(status.st_rdev);
    }
    return out;
}

inline bool same_state(const struct stat& a, const struct stat& b)
{
    const auto facts = [](const struct stat& of) {
        return std::tuple(of.st_dev, of.st_ino, of.st_mode, of.st_size, of.st_mtim.tv_sec, of.st_mtim.tv_nsec,
                          of.st_ctim.tv_sec, of.st_ctim.tv_nsec);
    };
    return facts(a) == facts(b);
}

inline struct stat status_of(int fd)
{
    struct stat out;
    checked(::fstat(fd, &out), "stat");
    return out;
}

} // namespace detail

OVERMOUNT_DECL upper_reader::upper_reader(unique_fd upper, upper_options options)
    : directory_(std::move(upper)), options_(std::move(options))
{
}

OVERMOUNT_DECL std::size_t upper_reader::read(std::span<std::byte> into)
{
    try {
        while (given_ == pending_.size() && left_ == 0) {
            if (begun_ && levels_.empty())
                return 0;
            pending_.clear();
            given_ = 0;
            advance();
        }
        if (given_ == pending_.size())
            return read_file(into);
        const std::size_t count = std::min(into.size(), pending_.size() - given_);
        std::memcpy(into.data(), pending_.data() + given_, count);
        given_ += count;
        return count;
    } catch (error& failure) {
        if (failure.entry().empty())
            failure.at(stage::mount).entry(path_);
        throw;
    }
}

OVERMOUNT_DECL void upper_reader::advance()
{
    if (!begun_) {
        begun_ = true;
        // A process that may not read these xattrs would see none, and read another layer: find out first.
        if (::fsetxattr(directory_.get(), "trusted.overlay.none", "", 0, XATTR_REPLACE) != 0 && errno == EPERM)
            detail::throw_errno("read trusted.overlay xattrs");
        add_directory(std::move(directory_), "");
        return;
    }
    level& at = levels_.back();
    if (at.next == at.items.size()) {
        leave();
        return;
    }
    const item one = std::move(at.items[at.next++]);
    path_ = at.path + one.name;
    add(one);
}

OVERMOUNT_DECL void upper_reader::add(const item& one)
{
    if (one.name.starts_with(".wh."))
        detail::upper_error(errc::invalid_whiteout, path_, "a layer cannot hold a file with this name");
    if (!one.present) {
        add_whiteout(levels_.back().path + ".wh." + one.name);
        return;
    }
    static_cast<void>(tar::normalise(path_, options_.bounds()));
    struct stat status;
    if (::fstatat(directory_.get(), one.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
            detail::upper_error(errc::upper_changed, path_, "it was removed while it was being read");
        detail::throw_errno("stat");
    }
    auto made = detail::entry_of(path_, status);
    if (!made)
        return;
    if (status.st_nlink > 1 && made->type != tar::entry_type::directory) {
        const auto [first, is_first] = first_names_.try_emplace(inode(status.st_dev, status.st_ino), path_);
        if (!is_first) {
            made->type = tar::entry_type::hard_link;
            made->link_target = first->second;
            made->size = made->stored_size = 0;
            write(*made);
            return;
        }
        path_bytes_ += path_.size();
        if (path_bytes_ > options_.bounds().directory_bytes)
            detail::upper_error(errc::too_many_entries, path_, "the paths of files with hard links exceed limits::directory_bytes");
    }
    if (made->type == tar::entry_type::directory || made->type == tar::entry_type::regular) {
        // O_NONBLOCK: if a fifo has replaced the file meanwhile, open must not block.
        unique_fd opened(::openat(directory_.get(), one.name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
        if (!opened && (errno == ENOENT || errno == ELOOP))
            detail::upper_error(errc::upper_changed, path_, "it was removed or replaced while it was being read");
        detail::checked(opened.get(), "open");
        if (!detail::same_state(detail::status_of(opened.get()), status))
            detail::upper_error(errc::upper_changed, path_, "it was replaced or written to while it was being read");
        if (made->type == tar::entry_type::directory)
            add_directory(std::move(opened), path_ + "/");
        else
            add_file(std::move(opened), status, path_, std::move(*made));
        return;
    }
    const std::string name = detail::by_descriptor(directory_.get(), one.name);
    if (made->type == tar::entry_type::symbolic_link) {
        std::string target(static_cast<std::size_t>(status.st_size) + 1, '\0');
        const ssize_t size = ::readlinkat(directory_.get(), one.name.c_str(), target.data(), target.size());
        if (detail::checked(static_cast<int>(size), "readlink") != status.st_size)
            detail::upper_error(errc::upper_changed, path_, "the link was replaced while it was being read");
        target.pop_back();
        made->link_target = std::move(target);
    }
    made->xattrs = detail::layer_xattrs(name, made->type, options_.bounds());
    write(*made);
}

OVERMOUNT_DECL void upper_reader::add_whiteout(const std::string& path)
{
    tar::entry made;
    made.path = path;
    write(made);
}

OVERMOUNT_DECL void upper_reader::add_directory(unique_fd opened, const std::string& path)
{
    const std::string name = detail::by_descriptor(opened.get(), ".");
    if (detail::xattr_of(name, "trusted.overlay.redirect"))
        detail::upper_error(errc::unsupported_entry_type, path_,
                            "the directory was renamed by an overlay with redirect_dir, and its content is in the layers below");
    const std::string opaque = detail::xattr_of(name, "trusted.overlay.opaque").value_or("");
    const struct stat status = detail::status_of(opened.get());
    auto made = detail::entry_of(path.empty() ? "./" : path, status);
    made->xattrs = detail::layer_xattrs(name, made->type, options_.bounds());
    write(*made);
    // Below an opaque directory everything is hidden already. The kernel ignores the xattr on the root.
    const bool hidden = !levels_.empty() && levels_.back().hides_lower;
    const bool hides_lower = hidden || (opaque == "y" && !path.empty());
    if (hides_lower && !hidden && options_.shows_below(path_))
        add_whiteout(path + ".wh..wh..opq");
    directory_ = std::move(opened);
    levels_.push_back({status, path, hides_lower});
    levels_.back().items = list(path, opaque);
    if (hides_lower)
        std::erase_if(levels_.back().items, [](const item& one) { return !one.present; });
    std::sort(levels_.back().items.begin(), levels_.back().items.end());
}

OVERMOUNT_DECL std::vector<upper_reader::item> upper_reader::list(const std::string& path,
                                                                       const std::string& opaque)
{
    const detail::directory_stream stream = detail::stream_of(detail::open_directory(directory_.get(), "."));
    std::vector<item> out;
    while (const dirent* found = detail::next_entry(stream.get())) {
        if (++listed_ > options_.bounds().entries)
            detail::upper_error(errc::too_many_entries, path, "");
        const std::string name = found->d_name;
        out.push_back({!is_whiteout(name, found->d_type, opaque), name});
    }
    return out;
}

OVERMOUNT_DECL bool upper_reader::is_whiteout(const std::string& name, unsigned char type,
                                                   const std::string& opaque) const
{
    // An overlay that cannot create devices uses an empty file with an xattr as a whiteout, in a directory with opaque=x.
    const bool by_xattr = opaque == "x" && (type == DT_REG || type == DT_UNKNOWN);
    if (type != DT_CHR && type != DT_UNKNOWN && !by_xattr)
        return false;
    struct stat status;
    if (::fstatat(directory_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        return false; // reading the entry will report that it was removed
    if (S_ISCHR(status.st_mode))
        return status.st_rdev == makedev(0, 0);
    return by_xattr && S_ISREG(status.st_mode) && status.st_size == 0 &&
           detail::xattr_of(detail::by_descriptor(directory_.get(), name), "trusted.overlay.whiteout");
}

OVERMOUNT_DECL void upper_reader::add_file(unique_fd opened, const struct stat& status, const std::string& path,
                                                tar::entry made)
{
    const std::string name = detail::by_descriptor(directory_.get(), std::string(tar::name_of(path)));
    if (detail::xattr_of(name, "trusted.overlay.metacopy"))
        detail::upper_error(errc::unsupported_entry_type, path,
                            "the file was changed by an overlay with metacopy, and its content is in the layers below");
    made.xattrs = detail::layer_xattrs(name, made.type, options_.bounds());
    // The header describes this state; read_file checks that the data belongs to it.
    if (!detail::same_state(detail::status_of(opened.get()), status))
        detail::upper_error(errc::upper_changed, path, "it was replaced or written to while it was being read");
    write(made);
    bytes_ += made.size;
    if (bytes_ > options_.bounds().layer_bytes)
        detail::upper_error(errc::layer_too_large, path, "");
    left_ = made.size;
    file_status_ = status;
    if (left_ != 0)
        file_ = std::move(opened);
}

OVERMOUNT_DECL std::size_t upper_reader::read_file(std::span<std::byte> into)
{
    if (into.size() > left_)
        into = into.first(left_);
    const std::size_t count = detail::read_some(file_.get(), into);
    if (count == 0)
        detail::upper_error(errc::upper_changed, path_, "it became shorter while it was being read");
    left_ -= count;
    if (left_ == 0) {
        if (!detail::same_state(detail::status_of(file_.get()), file_status_))
            detail::upper_error(errc::upper_changed, path_, "it was written to while it was being read");
        pending_ = tar::zeros_behind(static_cast<std::uint64_t>(file_status_.st_size));
        given_ = 0;
        file_.reset();
    }
    return count;
}

OVERMOUNT_DECL void upper_reader::leave()
{
    path_ = levels_.back().path;
    if (!detail::same_state(detail::status_of(directory_.get()), levels_.back().status))
        detail::upper_error(errc::upper_changed, path_, "the directory was changed while it was being read");
    levels_.pop_back();
    if (levels_.empty()) {
        pending_ = tar::end_marker();
        return;
    }
    // Go up by "..", so that one descriptor is enough at any depth. A directory that was moved has another parent.
    directory_ = detail::open_directory(directory_.get(), "..");
    const struct stat status = detail::status_of(directory_.get());
    if (inode(status.st_dev, status.st_ino) != inode(levels_.back().status.st_dev, levels_.back().status.st_ino))
        detail::upper_error(errc::upper_changed, path_, "the directory was moved while it was being read");
}

OVERMOUNT_DECL void upper_reader::write(const tar::entry& made)
{
    if (++entries_ > options_.bounds().entries)
        detail::upper_error(errc::too_many_entries, made.path, "");
    if (const auto latest = options_.latest(); latest && made.mtime.seconds >= *latest) {
        tar::entry clamped = made;
        clamped.mtime = {*latest, 0};
        pending_ += tar::make_header(clamped);
        return;
    }
    pending_ += tar::make_header(made);
}

OVERMOUNT_DECL bool is_unchanged(int upper, int shown)
{
    if (detail::next_entry(detail::stream_of(detail::open_directory(upper, ".")).get()) != nullptr)
        return false;
    const auto facts = [](int directory) {
        const struct stat status = detail::status_of(directory);
        return std::tuple(status.st_mode, status.st_uid, status.st_gid, status.st_mtim.tv_sec,
                          status.st_mtim.tv_nsec,
                          detail::layer_xattrs(detail::by_descriptor(directory, "."), tar::entry_type::directory, limits()));
    };
    return facts(upper) == facts(shown);
}

} // namespace overmount::OVERMOUNT_ABI

#endif
