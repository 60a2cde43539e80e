#ifndef OVERMOUNT_IMPL_EXTRACTOR_IPP
#define OVERMOUNT_IMPL_EXTRACTOR_IPP

#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>
#include <overmount/tar/xattr_rules.hpp>
#include <overmount/unpack/extractor.hpp>

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <climits>

namespace overmount::inline OVERMOUNT_ABI::detail {

inline constexpr int parent_flags = O_PATH | O_DIRECTORY;

inline bool is_whiteout(const struct stat& status) noexcept
{
    return S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

inline std::array<timespec, 2> times_of(const tar::timestamp& time) noexcept
{
    const timespec value{static_cast<time_t>(time.seconds), static_cast<long>(time.nanoseconds)};
    return {value, value};
}

OVERMOUNT_DECL extractor::extractor(int root, int trash, const limits& bounds, bool sync_files)
    : root_(root), trash_(trash), bounds_(bounds), sync_files_(sync_files), our_uid_(::geteuid()),
      our_gid_(::getegid())
{
    // A set-gid directory above hands down its group, a default ACL its modes.
    if (::fremovexattr(root, "system.posix_acl_default") != 0 && errno != ENODATA && errno != EOPNOTSUPP)
        throw_errno("removexattr");
    struct stat status;
    check(::fstat(root, &status), "stat");
    if (status.st_uid != our_uid_ || status.st_gid != our_gid_)
        check(::fchown(root, our_uid_, our_gid_), "chown");
    root_path_ = real_path(root);
    directories_[status.st_ino];
}

OVERMOUNT_DECL std::string extractor::real_path(int fd) const
{
    std::array<char, PATH_MAX> buffer;
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t size = ::readlink(link.c_str(), buffer.data(), buffer.size());
    if (size < 0)
        throw_errno("readlink", link);
    std::string path(buffer.data(), static_cast<std::size_t>(size));
    if (root_path_.empty() || path == root_path_)
        return root_path_.empty() ? path : std::string();
    return path.substr(root_path_.size() + 1);
}

// The descriptor of the directory `path`, from a small cache. It stays valid until the next call.
OVERMOUNT_DECL int extractor::parent(const std::string& path)
{
    above_path_.clear();
    if (path.empty())
        return root_;
    ++clock_;
    for (cached_parent& known : parents_) {
        if (known.path == path) {
            known.used = clock_;
            above_path_ = known.real;
            return known.fd.get();
        }
    }
    unique_fd fd = open_in_root(root_, path, parent_flags);
    if (!fd && errno != ENOENT && errno != ENOTDIR)
        throw_errno("open directory");
    if (!fd)
        fd = make_parents(path);
    // Links on the way may be replaced later: what is noted of a directory is noted under its own path.
    above_path_ = real_path(fd.get());
    constexpr std::size_t most = 8;
    if (parents_.size() < most) {
        parents_.push_back({path, above_path_, std::move(fd), clock_});
        return parents_.back().fd.get();
    }
    cached_parent& oldest = *std::ranges::min_element(parents_, {}, &cached_parent::used);
    oldest = {path, above_path_, std::move(fd), clock_};
    return oldest.fd.get();
}

OVERMOUNT_DECL void extractor::forget_parents() { parents_.clear(); }

// Makes what is missing of `path`, one component after the other.
OVERMOUNT_DECL unique_fd extractor::make_parents(const std::string& path)
{
    unique_fd above(check(::openat(root_, ".", parent_flags | O_CLOEXEC), "open directory"));
    for (std::size_t end = 0; end != std::string::npos;) {
        end = path.find('/', end == 0 ? 0 : end + 1);
        const std::string prefix = path.substr(0, end);
        unique_fd next = open_in_root(root_, prefix, parent_flags);
        if (!next && errno != ENOENT && errno != ENOTDIR)
            throw_errno("open directory");
        if (!next)
            next = make_implied(above.get(), std::string(tar::name_of(prefix)));
        above = std::move(next);
    }
    return above;
}

OVERMOUNT_DECL unique_fd extractor::make_implied(int above, const std::string& name)
{
    struct stat status;
    const bool there = ::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
    const bool cut = there && is_whiteout(status);
    if (cut) {
        check(::unlinkat(above, name.c_str(), 0), "unlink");
    } else if (there) {
        // A file of this layer, or a link that leads nowhere: nothing can be below it.
        errno = ENOTDIR;
        throw_errno("open directory");
    }
    check(::mkdirat(above, name.c_str(), 0700), "mkdir");
    unique_fd made(check(::openat(above, name.c_str(), parent_flags | O_NOFOLLOW | O_CLOEXEC), "open directory"));
    check(::fstat(made.get(), &status), "stat");
    directory& noted = directories_[status.st_ino];
    noted = directory();
    noted.path = real_path(made.get());
    noted.opaque = noted.cut = cut;
    any_opaque_ = any_opaque_ || cut;
    return made;
}

OVERMOUNT_DECL void extractor::begin(const tar::entry& entry)
{
    entry_ = &entry;
    const std::string path = tar::normalise(entry.path, bounds_);
    if (path.empty() && entry.type != tar::entry_type::directory)
        throw error(errc::entry_escapes_layer);
    if (path.empty())
        return put_directory(root_, ".", true);
    const std::string name(tar::name_of(path));
    const auto what = tar::whiteout::of(name);
    if (what.kind == tar::whiteout_kind::malformed)
        throw error(errc::invalid_whiteout);
    if (what.kind == tar::whiteout_kind::leftover)
        return;
    const int above = parent(std::string(tar::parent_of(path)));
    if (what.kind == tar::whiteout_kind::opaque)
        return put_opaque(above);
    if (what.kind == tar::whiteout_kind::whiteout)
        return put_whiteout(above, std::string(what.name));
    switch (entry.type) {
    case tar::entry_type::directory: return put_directory(above, name, false);
    case tar::entry_type::regular: return put_file(above, name);
    case tar::entry_type::symbolic_link: return put_symbolic_link(above, name);
    case tar::entry_type::hard_link: return put_hard_link(above, name);
    case tar::entry_type::character_device:
    case tar::entry_type::block_device:
    case tar::entry_type::fifo: return put_node(above, name);
    }
}

template <class Make>
void extractor::replace(int above, const std::string& name, Make make)
{
    if (make() >= 0)
        return;
    if (errno != EEXIST)
        throw_errno("create");
    remove_tree(above, name, trash_, [this](ino_t inode) { directories_.erase(inode); });
    // `above` may be one of the cached descriptors: those stay open until the entry is done.
    for (cached_parent& known : parents_)
        known.path.clear();
    check(make(), "create");
}

OVERMOUNT_DECL void extractor::put_directory(int above, const std::string& name, bool root)
{
    struct stat status;
    bool cut = false;
    if (!root && ::mkdirat(above, name.c_str(), 0700) != 0) {
        if (errno != EEXIST)
            throw_errno("mkdir");
        check(::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
        // What it replaces, a whiteout or a file of this layer, has hidden all that lies below.
        cut = !S_ISDIR(status.st_mode);
        if (cut)
            replace(above, name, [&] { return ::mkdirat(above, name.c_str(), 0700); });
    }
    check(::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
    directory& noted = directories_[status.st_ino];
    noted.path = root ? std::string() : above_path_.empty() ? name : above_path_ + "/" + name;
    noted.has_entry = true;
    noted.opaque = noted.opaque || cut;
    noted.cut = noted.cut || cut;
    any_opaque_ = any_opaque_ || cut;
    noted.shown = {entry_->mode, entry_->uid, entry_->gid, entry_->mtime, entry_->xattrs};
}

OVERMOUNT_DECL void extractor::put_file(int above, const std::string& name)
{
    replace(above, name, [&] {
        file_.reset(::openat(above, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        return file_ ? 0 : -1;
    });
}

OVERMOUNT_DECL void extractor::data(std::uint64_t offset, std::span<const std::byte> bytes)
{
    if (!file_) // of a whiteout
        return;
    while (!bytes.empty()) {
        const ssize_t written = ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            throw_errno("write");
        offset += static_cast<std::uint64_t>(written);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

OVERMOUNT_DECL void extractor::end()
{
    if (!file_)
        return;
    const int fd = file_.get();
    if (entry_->sparse)
        check(::ftruncate(fd, static_cast<off_t>(entry_->size)), "truncate");
    if (entry_->uid != our_uid_ || entry_->gid != our_gid_)
        check(::fchown(fd, entry_->uid, entry_->gid), "chown");
    check(::fchmod(fd, entry_->mode), "chmod");
    set_xattrs(fd, entry_->xattrs, entry_->type);
    check(::futimens(fd, times_of(entry_->mtime).data()), "utimens");
    if (sync_files_)
        check(::fsync(fd), "fsync");
    file_.reset();
}

OVERMOUNT_DECL void extractor::put_symbolic_link(int above, const std::string& name)
{
    const std::string& target = entry_->link_target;
    if (target.empty() || target.find('\0') != std::string::npos)
        throw error(errc::entry_escapes_layer).operation("symlink");
    if (target.size() > bounds_.path_bytes)
        throw error(errc::path_too_long).operation("symlink");
    replace(above, name, [&] { return ::symlinkat(target.c_str(), above, name.c_str()); });
    set_owner_and_times(above, name);
}

OVERMOUNT_DECL void extractor::put_hard_link(int above, const std::string& name)
{
    const std::string target = tar::normalise(entry_->link_target, bounds_);
    const std::string target_name(tar::name_of(target));
    const unique_fd there = open_in_root(root_, std::string(tar::parent_of(target)), parent_flags);
    struct stat status;
    if (target.empty() || !there ||
        ::fstatat(there.get(), target_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || is_whiteout(status))
        throw error(errc::missing_hard_link_target).operation("link").subject(entry_->link_target);
    struct stat same;
    if (::fstatat(above, name.c_str(), &same, AT_SYMLINK_NOFOLLOW) == 0 && same.st_ino == status.st_ino)
        return; // a link to itself
    if (S_ISDIR(status.st_mode))
        throw error(errc::missing_hard_link_target).operation("link").detail("the target is a directory");
    replace(above, name, [&] { return ::linkat(there.get(), target_name.c_str(), above, name.c_str(), 0); });
}

OVERMOUNT_DECL void extractor::put_node(int above, const std::string& name)
{
    mode_t kind = S_IFIFO;
    dev_t device = 0;
    if (entry_->type != tar::entry_type::fifo) {
        kind = entry_->type == tar::entry_type::character_device ? S_IFCHR : S_IFBLK;
        device = ::makedev(entry_->device_major, entry_->device_minor);
        // overlayfs would take it for a whiteout.
        if (kind == S_IFCHR && device == 0)
            throw error(errc::unsupported_entry_type).operation("mknod").detail("a character device 0:0");
    }
    replace(above, name, [&] { return ::mknodat(above, name.c_str(), kind | 0600, device); });
    if (entry_->uid != our_uid_ || entry_->gid != our_gid_)
        check(::fchownat(above, name.c_str(), entry_->uid, entry_->gid, AT_SYMLINK_NOFOLLOW), "chown");
    set_node_mode(above, name);
    set_owner_and_times(above, name);
}

// By the descriptor of what was just made: fchmodat follows links, and fchmodat2 is too new to rely on.
OVERMOUNT_DECL void extractor::set_node_mode(int above, const std::string& name)
{
    const unique_fd fd(check(::openat(above, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC), "open"));
    struct stat status;
    check(::fstat(fd.get(), &status), "stat");
    if (S_ISLNK(status.st_mode) || S_ISREG(status.st_mode))
        throw error(errc::entry_escapes_layer).operation("chmod");
    const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
    check(::chmod(link.c_str(), entry_->mode), "chmod");
}

OVERMOUNT_DECL void extractor::set_owner_and_times(int above, const std::string& name)
{
    if (entry_->type == tar::entry_type::symbolic_link && (entry_->uid != our_uid_ || entry_->gid != our_gid_))
        check(::fchownat(above, name.c_str(), entry_->uid, entry_->gid, AT_SYMLINK_NOFOLLOW), "chown");
    check(::utimensat(above, name.c_str(), times_of(entry_->mtime).data(), AT_SYMLINK_NOFOLLOW), "utimens");
    for (const tar::xattr& attribute : entry_->xattrs)
        skipped_xattrs_ = skipped_xattrs_ || !tar::stores_xattr(attribute.name, entry_->type);
}

OVERMOUNT_DECL void extractor::set_xattrs(int fd, const std::vector<tar::xattr>& xattrs, tar::entry_type type)
{
    for (int order = 0; !xattrs.empty() && order < 3; ++order) {
        for (const tar::xattr& attribute : xattrs) {
            if (!tar::stores_xattr(attribute.name, type))
                skipped_xattrs_ = true;
            else if (tar::xattr_order(attribute.name) == order)
                set_xattr(fd, attribute);
        }
    }
}

OVERMOUNT_DECL void extractor::set_xattr(int fd, const tar::xattr& attribute)
{
    if (attribute.name.size() > XATTR_NAME_MAX || attribute.value.size() > bounds_.xattr_bytes)
        throw error(errc::xattr_too_large).operation("setxattr").subject(attribute.name);
    if (::fsetxattr(fd, attribute.name.c_str(), attribute.value.data(), attribute.value.size(), 0) == 0)
        return;
    const bool acl = attribute.name.starts_with("system.");
    if (errno == EOPNOTSUPP || (acl && attribute.value.empty()))
        skipped_xattrs_ = true;
    else if (errno == ENOSPC || errno == E2BIG || errno == ERANGE)
        throw error(errc::xattr_too_large).operation("setxattr").subject(attribute.name);
    else
        throw_errno("setxattr", attribute.name);
}

OVERMOUNT_DECL void extractor::put_whiteout(int above, const std::string& name)
{
    any_whiteout_ = true;
    if (::mknodat(above, name.c_str(), S_IFCHR, 0) == 0) {
        whiteout_directories_[above_path_] = true;
        return;
    }
    if (errno != EEXIST)
        throw_errno("mknod");
    // The layer has that name as well, and keeps it; only what lies below is deleted.
    struct stat status;
    check(::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
    if (S_ISDIR(status.st_mode)) {
        directory& noted = directories_[status.st_ino];
        noted.opaque = noted.cut = any_opaque_ = true;
    }
}

OVERMOUNT_DECL void extractor::put_opaque(int above)
{
    struct stat status;
    check(::fstat(above, &status), "stat");
    directories_[status.st_ino].opaque = any_opaque_ = true;
}

// Whether `path` or a directory above it is opaque.
OVERMOUNT_DECL bool extractor::below_opaque(const std::string& path) const
{
    for (std::size_t end = 0;;) {
        const std::string prefix = path.substr(0, end);
        struct stat status;
        if (::fstatat(root_, prefix.empty() ? "." : prefix.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
            return false;
        const auto found = directories_.find(status.st_ino);
        if (found != directories_.end() && found->second.opaque)
            return true;
        if (end >= path.size())
            return false;
        end = std::min(path.find('/', end + 1), path.size());
    }
}

// The kernel lists whiteouts of directories that it does not merge: where nothing of the layers below can show,
// they delete nothing and must not be there.
OVERMOUNT_DECL void extractor::drop_needless_whiteouts()
{
    if (!any_opaque_)
        return;
    for (auto& [path, needed] : whiteout_directories_) {
        needed = !below_opaque(path);
        const unique_fd fd = open_in_root(root_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (needed || !fd)
            continue;
        for (const std::string& name : list_directory(fd.get(), ".")) {
            struct stat status;
            check(::fstatat(fd.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
            if (is_whiteout(status))
                check(::unlinkat(fd.get(), name.c_str(), 0), "unlink");
        }
    }
}

OVERMOUNT_DECL void extractor::finish_directory(ino_t inode, const directory& made)
{
    const unique_fd fd = open_in_root(root_, made.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    struct stat status;
    if (!fd || ::fstat(fd.get(), &status) != 0 || status.st_ino != inode)
        return; // something else took its place
    if (made.shown.uid != status.st_uid || made.shown.gid != status.st_gid)
        check(::fchown(fd.get(), made.shown.uid, made.shown.gid), "chown");
    check(::fchmod(fd.get(), made.shown.mode), "chmod");
    set_xattrs(fd.get(), made.shown.xattrs, tar::entry_type::directory);
    if (made.opaque && !made.path.empty())
        check(::fsetxattr(fd.get(), "trusted.overlay.opaque", "y", 1, 0), "setxattr", "trusted.overlay.opaque");
    check(::futimens(fd.get(), times_of(made.shown.mtime).data()), "utimens");
    if (sync_files_)
        check(::fsync(fd.get()), "fsync");
}

OVERMOUNT_DECL tree_notes extractor::finish()
{
    forget_parents();
    tree_notes notes;
    drop_needless_whiteouts();
    for (const auto& [path, needed] : whiteout_directories_)
        if (needed)
            notes.whiteout_directories.push_back(path);
    // Deepest first: a mode may shut an unprivileged process out of what lies below.
    std::vector<std::pair<const ino_t, directory>*> order;
    order.reserve(directories_.size());
    for (auto& made : directories_)
        order.push_back(&made);
    std::ranges::sort(order, [](const auto* a, const auto* b) { return a->second.path > b->second.path; });
    for (const auto* made : order) {
        try {
            finish_directory(made->first, made->second);
        } catch (error& failure) {
            failure.entry(made->second.path);
            throw;
        }
        if (made->second.path.empty()) {
            notes.implied_root = !made->second.has_entry;
            notes.opaque_root = made->second.opaque;
        } else if (!made->second.has_entry && !made->second.cut) {
            notes.implied.push_back(made->second.path);
        }
    }
    std::ranges::sort(notes.implied);
    notes.skipped_xattrs = skipped_xattrs_;
    return notes;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
