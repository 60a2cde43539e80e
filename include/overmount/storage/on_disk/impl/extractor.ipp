#ifndef OVERMOUNT_STORAGE_ON_DISK_IMPL_EXTRACTOR_IPP
#define OVERMOUNT_STORAGE_ON_DISK_IMPL_EXTRACTOR_IPP

#include <overmount/storage/on_disk/extractor.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Not O_PATH: `finish_directory` sets attributes through the descriptors that are still open.
inline constexpr int parent_flags = O_RDONLY | O_DIRECTORY;

inline bool is_whiteout(const struct stat& status) noexcept
{
    return S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

OVERMOUNT_DECL extractor::extractor(int root, int outer, const limits& bounds, bool sync_files)
    : root_(root), outer_(outer), bounds_(bounds), sync_files_(sync_files), our_uid_(::geteuid()),
      our_gid_(::getegid())
{
    // Undo what the root may have inherited: the group of a set-gid parent, and a default ACL, which would change modes.
    if (::fremovexattr(root, "system.posix_acl_default") != 0 && errno != ENODATA && errno != EOPNOTSUPP)
        throw_errno("removexattr");
    struct stat status;
    checked(::fstat(root, &status), "stat");
    if (status.st_uid != our_uid_ || status.st_gid != our_gid_)
        checked(::fchown(root, our_uid_, our_gid_), "chown");
    root_inode_ = status.st_ino;
    directories_[root_inode_];
}

inline std::string path_in(const std::string& directory, const std::string& name)
{
    return directory.empty() ? name : directory + "/" + name;
}

// The path of a directory without symbolic links, since links in the entry's path may be replaced later.
OVERMOUNT_DECL std::string extractor::path_below(ino_t above, const std::string& name)
{
    std::string path = path_in(directories_.at(above).path, name);
    if (path.size() > bounds_.path_bytes)
        throw error(errc::path_too_long);
    if ((path_bytes_ += path.size()) > bounds_.directory_bytes)
        throw error(errc::too_many_entries).detail("the paths of all directories together exceed limits::directory_bytes");
    return path;
}

inline ino_t inode_of(int fd)
{
    struct stat status;
    checked(::fstat(fd, &status), "stat");
    return status.st_ino;
}

// After a path could not be opened: throws unless errno says that the layer has no directory there.
inline void check_is_missing()
{
    if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP && errno != EXDEV)
        throw_errno("open directory");
}

// Refuses an entry whose parent is a file, or a link that leads to no directory.
[[noreturn]] inline void no_directory()
{
    check_is_missing();
    throw error(errc::entry_escapes_layer).operation("open directory").detail("its parent is not a directory");
}

OVERMOUNT_DECL extractor::cached_parent* extractor::known_parent(const std::string& path) noexcept
{
    ++clock_;
    const auto found = std::ranges::find(parents_, path, &cached_parent::path);
    if (found == parents_.end())
        return nullptr;
    found->used = clock_;
    return &*found;
}

// Opens the directory `path`, through a small cache, and creates it if it is missing. The descriptor stays valid until the next call.
OVERMOUNT_DECL int extractor::parent(const std::string& path)
{
    parent_inode_ = root_inode_;
    if (path.empty())
        return root_;
    if (const cached_parent* known = known_parent(path)) {
        parent_inode_ = known->inode;
        return known->fd.get();
    }
    // The parent of `path` is usually in the cache: then one openat is enough, unless the name is a link.
    const std::string above_path(tar::parent_of(path)), name(tar::name_of(path));
    const cached_parent* known = above_path.empty() ? nullptr : known_parent(above_path);
    const int above = above_path.empty() ? root_ : known != nullptr ? known->fd.get() : -1;
    unique_fd fd;
    if (above >= 0)
        fd.reset(::openat(above, name.c_str(), parent_flags | O_NOFOLLOW | O_CLOEXEC));
    if (!fd && above >= 0 && errno == ENOENT)
        fd = make_implied(above, name);
    if (!fd)
        fd = open_in_root(root_, path, parent_flags);
    if (!fd)
        fd = make_parents(path);
    parent_inode_ = inode_of(fd.get());
    return keep_parent(path, parent_inode_, std::move(fd));
}

OVERMOUNT_DECL int extractor::keep_parent(const std::string& path, ino_t inode, unique_fd fd)
{
    constexpr std::size_t most = 8;
    if (parents_.size() < most) {
        parents_.push_back({path, inode, std::move(fd), clock_});
        return parents_.back().fd.get();
    }
    cached_parent& oldest = *std::ranges::min_element(parents_, {}, &cached_parent::used);
    oldest = {path, inode, std::move(fd), clock_};
    return oldest.fd.get();
}

// Creates the missing directories of `path`, one component after the other.
OVERMOUNT_DECL unique_fd extractor::make_parents(const std::string& path)
{
    if (errno != ENOENT && errno != ENOTDIR)
        no_directory();
    unique_fd above(checked(::openat(root_, ".", parent_flags | O_CLOEXEC), "open directory"));
    for (std::size_t end = 0; end != std::string::npos;) {
        const std::size_t begin = end == 0 ? 0 : end + 1;
        end = path.find('/', begin);
        const std::string name = path.substr(begin, end == std::string::npos ? end : end - begin);
        unique_fd next(::openat(above.get(), name.c_str(), parent_flags | O_NOFOLLOW | O_CLOEXEC));
        if (!next && errno != ENOENT) // it may be a symbolic link
            next = open_in_root(root_, path.substr(0, end), parent_flags);
        if (!next && errno != ENOENT && errno != ENOTDIR)
            no_directory();
        if (!next)
            next = make_implied(above.get(), name);
        above = std::move(next);
    }
    return above;
}

OVERMOUNT_DECL unique_fd extractor::make_implied(int above, const std::string& name)
{
    struct stat status;
    const bool there = ::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
    const bool replaced = there && is_whiteout(status);
    if (there && !replaced) {
        // A file of this layer, or a dangling link: it cannot be a parent.
        errno = ENOTDIR;
        no_directory();
    }
    std::string path = path_below(inode_of(above), name);
    if (++implied_ > bounds_.entries)
        throw error(errc::too_many_entries).detail("too many directories without an entry of their own");
    if (replaced)
        checked(::unlinkat(above, name.c_str(), 0), "unlink");
    checked(::mkdirat(above, name.c_str(), 0700), "mkdir");
    unique_fd made(checked(::openat(above, name.c_str(), parent_flags | O_NOFOLLOW | O_CLOEXEC), "open directory"));
    directory& noted = directories_[inode_of(made.get())];
    noted = directory();
    noted.path = std::move(path);
    noted.opaque = noted.replaced = replaced;
    return made;
}

OVERMOUNT_DECL void extractor::begin(const tar::entry& entry)
{
    entry_ = &entry;
    const std::string path = tar::normalise(entry.path, bounds_);
    if (path.empty() && entry.type != tar::entry_type::directory)
        throw error(errc::entry_escapes_layer);
    if (path.empty())
        return note_directory(root_inode_, {}, false);
    const auto what = tar::whiteout::of_path(path);
    if (what.kind == tar::whiteout_kind::malformed)
        throw error(errc::invalid_whiteout);
    if (what.kind == tar::whiteout_kind::leftover)
        return;
    const std::string name(tar::name_of(path));
    const int above = parent(std::string(tar::parent_of(path)));
    if (what.kind == tar::whiteout_kind::opaque)
        return put_opaque();
    if (what.kind == tar::whiteout_kind::whiteout)
        return put_whiteout(above, std::string(what.name));
    switch (entry.type) {
    case tar::entry_type::directory: return put_directory(above, name, path);
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
    make_room(above, name);
    // The cached paths may be wrong now. `above` may be one of the cached descriptors, so they stay open until the entry is done.
    for (cached_parent& known : parents_)
        known.path.clear();
    checked(make(), "create");
}

OVERMOUNT_DECL void extractor::keep_replaced(std::function<void(std::string_view)> on_aside)
{
    on_aside_ = std::move(on_aside);
}

OVERMOUNT_DECL void extractor::make_room(int above, const std::string& name)
{
    std::vector<ino_t> inodes; // of the directories that are moved away
    if (!on_aside_ || !has_files(above, name, inodes)) {
        remove_tree(above, name, outer_, [this](ino_t inode) { directories_.erase(inode); });
        return;
    }
    // A reader of the tar keeps these paths in memory: count them against the limit.
    const std::string path = path_in(directories_.at(parent_inode_).path, name);
    if ((path_bytes_ += path.size()) > bounds_.directory_bytes)
        throw error(errc::too_many_entries).detail("the paths of replaced files together exceed limits::directory_bytes");
    if (!aside_) {
        make_directory(outer_, "aside", 0700);
        aside_ = open_directory(outer_, "aside");
    }
    checked(::renameat(above, name.c_str(), aside_.get(), std::to_string(asides_++).c_str()), "rename", name);
    for (const ino_t inode : inodes)
        directories_.erase(inode);
    on_aside_(path);
}

// True if the tree has a regular file; also collects the inodes of its directories. A file's size does not tell whether it has data,
// since its data may be deferred.
OVERMOUNT_DECL bool extractor::has_files(int above, const std::string& name, std::vector<ino_t>& inodes) const
{
    struct stat status;
    checked(::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
    bool found = S_ISREG(status.st_mode);
    if (!S_ISDIR(status.st_mode))
        return found;
    const unique_fd top = open_directory(above, name);
    for (std::vector<std::string> todo{""}; !todo.empty();) {
        const std::string path = std::move(todo.back());
        todo.pop_back();
        const unique_fd fd = open_in_root(top.get(), path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        inodes.push_back(inode_of(checked(fd.get(), "open directory")));
        for (const std::string& below : list_directory(fd.get(), ".")) {
            checked(::fstatat(fd.get(), below.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
            found = found || S_ISREG(status.st_mode);
            if (S_ISDIR(status.st_mode))
                todo.push_back(path_in(path, below));
        }
        if (sync_files_)
            checked(::fsync(fd.get()), "fsync");
    }
    return found;
}

OVERMOUNT_DECL void extractor::put_directory(int above, const std::string& name, const std::string& path)
{
    bool replaced = false;
    std::string own = path_below(parent_inode_, name);
    if (::mkdirat(above, name.c_str(), 0700) != 0) {
        if (errno != EEXIST)
            throw_errno("mkdir");
        struct stat status;
        checked(::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
        // It replaces a whiteout or a file of this layer, which hid everything in the layers below.
        replaced = !S_ISDIR(status.st_mode);
        if (replaced)
            replace(above, name, [&] { return ::mkdirat(above, name.c_str(), 0700); });
    }
    // Its children usually come next: keep it open.
    unique_fd fd(checked(::openat(above, name.c_str(), parent_flags | O_NOFOLLOW | O_CLOEXEC), "open directory"));
    const ino_t inode = inode_of(fd.get());
    note_directory(inode, std::move(own), replaced);
    if (known_parent(path) == nullptr)
        keep_parent(path, inode, std::move(fd));
}

OVERMOUNT_DECL void extractor::note_directory(ino_t inode, std::string path, bool replaced)
{
    directory& noted = directories_[inode];
    noted.path = std::move(path);
    noted.has_entry = true;
    noted.opaque = noted.opaque || replaced;
    noted.replaced = noted.replaced || replaced;
    noted.mode = static_cast<std::uint16_t>(entry_->mode & 07777);
    noted.uid = entry_->uid;
    noted.gid = entry_->gid;
    noted.mtime = entry_->mtime;
    noted.xattrs = entry_->xattrs.empty() ? nullptr : std::make_unique<const std::vector<tar::xattr>>(entry_->xattrs);
}

OVERMOUNT_DECL void extractor::put_file(int above, const std::string& name)
{
    // No other user can enter the directories above, so the final mode may be set before the owner and the data.
    has_mode_ = exact_modes_hold_ && exact_modes::now() && (entry_->mode & ~0777u) == 0;
    const mode_t mode = has_mode_ ? entry_->mode : 0600;
    replace(above, name, [&] {
        file_.reset(::openat(above, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
        return file_ ? 0 : -1;
    });
    file_path_ = path_in(directories_.at(parent_inode_).path, name);
    if (has_mode_)
        verify_mode(mode);
}

// The file system may create files with another mode than requested, for example by a default ACL that only the NFSv4 server sees,
// or by the umask of a FUSE file system. Checks the first file with each mode bit.
OVERMOUNT_DECL void extractor::verify_mode(mode_t mode)
{
    if (mode_checked_ && (mode & ~checked_bits_) == 0)
        return;
    struct stat status;
    checked(::fstat(file_.get(), &status), "stat");
    has_mode_ = exact_modes_hold_ = (status.st_mode & 07777) == mode;
    mode_checked_ = true;
    checked_bits_ |= mode;
}

OVERMOUNT_DECL void extractor::data(std::uint64_t offset, std::span<const std::byte> bytes)
{
    if (!file_) // the entry is a whiteout
        return;
    deferred_->data(entry_->path, file_.get(), offset, bytes);
    if (deferred_ == &immediate_)
        immediate_.run();
}

OVERMOUNT_DECL void extractor::end()
{
    if (!file_)
        return;
    finish_options what;
    if (entry_->sparse)
        what.size = entry_->size;
    what.has_owner = entry_->uid == our_uid_ && entry_->gid == our_gid_;
    what.has_mode = has_mode_;
    what.sync = sync_files_;
    what.skipped_xattrs = &skipped_xattrs_;
    deferred_->end(*entry_, std::move(file_), what);
    if (deferred_ == &immediate_)
        immediate_.run();
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
    const std::string target_parent(tar::parent_of(target));
    // The target is usually a file in a cached directory. If this link fails, the steps below find out why.
    const cached_parent* known = target_parent.empty() ? nullptr : known_parent(target_parent);
    const int known_fd = target_parent.empty() ? root_ : known != nullptr ? known->fd.get() : -1;
    if (known_fd >= 0 && !target.empty() && !whiteouts_ &&
        ::linkat(known_fd, target_name.c_str(), above, name.c_str(), 0) == 0)
        return;
    unique_fd there = open_in_root(root_, target_parent, parent_flags);
    if (!there)
        check_is_missing();
    struct stat status;
    if (target.empty() || !there ||
        ::fstatat(there.get(), target_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || is_whiteout(status))
        throw error(errc::missing_hard_link_target).operation("link").subject(entry_->link_target);
    struct stat same;
    if (::fstatat(above, name.c_str(), &same, AT_SYMLINK_NOFOLLOW) == 0 && same.st_ino == status.st_ino)
        return; // a link to itself
    if (S_ISDIR(status.st_mode))
        throw error(errc::missing_hard_link_target).operation("link").detail("the target is a directory");
    bool tried = false;
    replace(above, name, [&] {
        // The target may have been removed with the directory that the link replaces.
        if (std::exchange(tried, true))
            there = open_in_root(root_, target_parent, parent_flags);
        const int linked = there ? ::linkat(there.get(), target_name.c_str(), above, name.c_str(), 0) : -1;
        if (!there || (linked != 0 && errno == ENOENT))
            throw error(errc::missing_hard_link_target).operation("link").subject(entry_->link_target);
        return linked;
    });
}

OVERMOUNT_DECL void extractor::put_node(int above, const std::string& name)
{
    mode_t kind = S_IFIFO;
    dev_t device = 0;
    if (entry_->type != tar::entry_type::fifo) {
        kind = entry_->type == tar::entry_type::character_device ? S_IFCHR : S_IFBLK;
        device = ::makedev(entry_->device_major, entry_->device_minor);
        if (kind == S_IFCHR && device == 0)
            throw error(errc::unsupported_entry_type)
                .operation("mknod")
                .detail("overlayfs would take a character device 0:0 for a whiteout");
    }
    replace(above, name, [&] { return ::mknodat(above, name.c_str(), kind | 0600, device); });
    if (entry_->uid != our_uid_ || entry_->gid != our_gid_)
        checked(::fchownat(above, name.c_str(), entry_->uid, entry_->gid, AT_SYMLINK_NOFOLLOW), "chown");
    finish_node(above, name);
    set_owner_and_times(above, name);
}

// Sets mode and xattrs through an O_PATH descriptor: fchmodat follows links, and fchmodat2 and setxattrat are too new to
// rely on.
OVERMOUNT_DECL void extractor::finish_node(int above, const std::string& name)
{
    const unique_fd fd(checked(::openat(above, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC), "open"));
    struct stat status;
    checked(::fstat(fd.get(), &status), "stat");
    if (S_ISLNK(status.st_mode) || S_ISREG(status.st_mode))
        throw error(errc::entry_escapes_layer).operation("chmod");
    const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
    checked(::chmod(link.c_str(), entry_->mode), "chmod");
    note_skipped(set_xattrs(entry_->xattrs, entry_->type, [&](const tar::xattr& one) {
        return ::setxattr(link.c_str(), one.name.c_str(), one.value.data(), one.value.size(), 0);
    }));
}

OVERMOUNT_DECL void extractor::set_owner_and_times(int above, const std::string& name)
{
    if (entry_->type == tar::entry_type::symbolic_link && (entry_->uid != our_uid_ || entry_->gid != our_gid_))
        checked(::fchownat(above, name.c_str(), entry_->uid, entry_->gid, AT_SYMLINK_NOFOLLOW), "chown");
    checked(::utimensat(above, name.c_str(), times_of(entry_->mtime).data(), AT_SYMLINK_NOFOLLOW), "utimens");
    if (entry_->type == tar::entry_type::symbolic_link)
        note_skipped(set_xattrs(entry_->xattrs, entry_->type, [](const tar::xattr&) { return 0; })); // links cannot have any
}

OVERMOUNT_DECL void extractor::put_whiteout(int above, const std::string& name)
{
    if (::mknodat(above, name.c_str(), S_IFCHR, 0) == 0) {
        directories_.at(parent_inode_).whiteouts = whiteouts_ = true;
        return;
    }
    if (errno != EEXIST)
        throw_errno("mknod");
    // The layer has an entry of that name as well: keep it, and hide only what lower layers have there.
    struct stat status;
    checked(::fstatat(above, name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
    if (S_ISDIR(status.st_mode)) {
        directory& noted = directories_.at(status.st_ino);
        noted.opaque = noted.replaced = true;
    }
}

OVERMOUNT_DECL void extractor::put_opaque() { directories_.at(parent_inode_).opaque = true; }

// Removes whiteouts in and below opaque directories. They hide nothing there, and the kernel would list them, because it does not
// merge these directories with lower ones.
OVERMOUNT_DECL void extractor::drop_needless_whiteouts()
{
    std::unordered_set<std::string_view> opaque;
    for (const auto& [inode, made] : directories_)
        if (made.opaque)
            opaque.insert(made.path);
    const auto below_opaque = [&](std::string_view path) {
        while (!path.empty() && !opaque.contains(path))
            path = tar::parent_of(path);
        return opaque.contains(path);
    };
    for (auto& [inode, made] : directories_) {
        if (!made.whiteouts || opaque.empty() || !below_opaque(made.path))
            continue;
        made.whiteouts = false;
        const unique_fd fd = open_in_root(root_, made.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        for (const std::string& name : list_directory(checked(fd.get(), "open directory"), ".")) {
            struct stat status;
            checked(::fstatat(fd.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW), "stat");
            if (is_whiteout(status))
                checked(::unlinkat(fd.get(), name.c_str(), 0), "unlink");
        }
    }
}

OVERMOUNT_DECL void extractor::finish_directory(ino_t inode, const directory& made)
{
    const auto known = std::ranges::find(parents_, inode, &cached_parent::inode);
    unique_fd opened;
    if (known == parents_.end()) {
        opened = open_in_root(root_, made.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (!opened)
            return check_is_missing(); // a later entry replaced it
        if (inode_of(opened.get()) != inode)
            return;
    }
    const int fd = opened ? opened.get() : known->fd.get();
    if (made.uid != our_uid_ || made.gid != our_gid_)
        checked(::fchown(fd, made.uid, made.gid), "chown");
    checked(::fchmod(fd, made.mode), "chmod");
    if (made.xattrs)
        note_skipped(set_xattrs(fd, *made.xattrs, tar::entry_type::directory));
    if (made.opaque && !made.path.empty())
        checked(::fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0), "setxattr", "trusted.overlay.opaque");
    checked(::futimens(fd, times_of(made.mtime).data()), "utimens");
    if (sync_files_)
        checked(::fsync(fd), "fsync");
}

OVERMOUNT_DECL tree_notes extractor::finish()
{
    if (aside_ && sync_files_)
        sync_directory(aside_.get());
    aside_.reset();
    tree_notes notes;
    drop_needless_whiteouts();
    // Deepest first: the mode of a directory may prevent an unprivileged process from reaching its children.
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
        if (made->second.whiteouts)
            notes.whiteout_directories.push_back(made->second.path);
        if (made->second.path.empty()) {
            notes.implied_root = !made->second.has_entry;
            notes.opaque_root = made->second.opaque;
        } else if (!made->second.has_entry && !made->second.replaced) {
            notes.implied.push_back(made->second.path);
        }
    }
    parents_.clear();
    std::ranges::sort(notes.implied);
    std::ranges::sort(notes.whiteout_directories);
    notes.skipped_xattrs = skipped_xattrs_;
    return notes;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
