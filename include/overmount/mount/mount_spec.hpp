#ifndef OVERMOUNT_MOUNT_MOUNT_SPEC_HPP
#define OVERMOUNT_MOUNT_MOUNT_SPEC_HPP

#include <overmount/core/error.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// A directory to be mounted: a descriptor, or a path, or both; or a path and how to open it. Copies share an owned
/// descriptor.
///
/// The descriptor may be of O_PATH, of a detached mount, or of an idmapped one, and is preferred. A path that
/// is given beside it must name the same directory: older kernels are handed the path, and mountinfo shows
/// it.
class mount_directory
{
public:
    explicit mount_directory(std::string path) : path_(std::move(path)) {}
    /// Owns `fd`. One that is not open counts as none.
    explicit mount_directory(unique_fd fd, std::string path = {})
        : owned_(detail::new_shared<const unique_fd>(std::move(fd))), path_(std::move(path))
    {}
    /// Shares a descriptor with others.
    explicit mount_directory(std::shared_ptr<const unique_fd> fd, std::string path = {})
        : owned_(std::move(fd)), path_(std::move(path))
    {}
    /// Is opened when it is mounted, and closed when the kernel has it: so the descriptors of a mount do not grow with its
    /// lower directories. `path` names the same directory.
    explicit mount_directory(std::function<std::shared_ptr<const unique_fd>()> open, std::string path)
        : open_(std::move(open)), path_(std::move(path))
    {}
    /// Uses `fd`, which must stay open for as long as this object or a copy of it is mounted from.
    [[nodiscard]] static mount_directory borrowed(int fd, std::string path = {})
    {
        mount_directory out(std::move(path));
        out.borrowed_ = fd;
        return out;
    }

    /// The same directory with a descriptor, where it is one that is opened late.
    [[nodiscard]] mount_directory opened() const { return open_ ? mount_directory(open_(), path_) : *this; }
    /// The descriptor, or -1.
    [[nodiscard]] int fd() const noexcept { return owned_ ? owned_->get() : borrowed_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// What a system call of this process finds it by: the path, or `/proc/self/fd/N` where there is none.
    OVERMOUNT_LAZY [[nodiscard]] std::string name() const;

private:
    std::function<std::shared_ptr<const unique_fd>()> open_;
    std::shared_ptr<const unique_fd> owned_;
    int borrowed_ = -1;
    std::string path_;
};

/// One of the directories that overlayfs only reads.
using lower = mount_directory;

/// What to mount: directories and options, nothing that needs a system call.
///
/// The mount is private: what is mounted inside it later does not spread to other namespaces.
class mount_spec
{
public:
    /// As many lower directories as overlayfs can stack.
    static constexpr std::size_t max_lowers = 500;

    /// Puts a directory beneath those that are there: the first one added is topmost.
    mount_spec& add_lower(lower directory)
    {
        lowers_.push_back(std::move(directory));
        return *this;
    }
    /// Topmost first.
    mount_spec& lowers(std::vector<lower> directories)
    {
        lowers_ = std::move(directories);
        return *this;
    }
    /// The directory that takes the changes. It needs a work directory on the same file system.
    mount_spec& upper(mount_directory directory)
    {
        upper_ = std::move(directory);
        return *this;
    }
    /// An empty directory for the kernel's own use.
    mount_spec& work(mount_directory directory)
    {
        work_ = std::move(directory);
        return *this;
    }
    /// What mountinfo shows as the source: at most 255 bytes.
    mount_spec& source(std::string text)
    {
        source_ = std::move(text);
        return *this;
    }
    mount_spec& read_only(bool on) { return set(read_only_, on); }
    mount_spec& nosuid(bool on) { return set(nosuid_, on); }
    mount_spec& nodev(bool on) { return set(nodev_, on); }
    mount_spec& noexec(bool on) { return set(noexec_, on); }
    /// Marks are read and written as `user.overlay.*`, not `trusted.overlay.*`: for user namespaces.
    mount_spec& userxattr(bool on) { return set(userxattr_, on); }
    /// Syncs nothing: after a crash the upper is lost. The kernel refuses to use its work directory again
    /// until `work/incompat/volatile` in it is removed. Without an upper it means nothing.
    mount_spec& volatile_(bool on) { return set(is_volatile_, on); }

    [[nodiscard]] const std::vector<lower>& lowers() const noexcept { return lowers_; }
    [[nodiscard]] const std::optional<mount_directory>& upper() const noexcept { return upper_; }
    [[nodiscard]] const std::optional<mount_directory>& work() const noexcept { return work_; }
    [[nodiscard]] const std::string& source() const noexcept { return source_; }
    [[nodiscard]] bool read_only() const noexcept { return read_only_; }
    [[nodiscard]] bool nosuid() const noexcept { return nosuid_; }
    [[nodiscard]] bool nodev() const noexcept { return nodev_; }
    [[nodiscard]] bool noexec() const noexcept { return noexec_; }
    [[nodiscard]] bool userxattr() const noexcept { return userxattr_; }
    [[nodiscard]] bool volatile_() const noexcept { return is_volatile_; }

    /// Checks what overlayfs would refuse without saying why.
    ///
    /// *Errors*: `errc::too_many_layers` for more than `max_lowers`; `errc::mount_cannot_proceed` for no
    /// lower, for an upper without a work directory or the reverse, for one lower without an upper (add an
    /// empty directory at the bottom), and for names that are empty, too long or hold a NUL.
    OVERMOUNT_LAZY void validate() const;

private:
    mount_spec& set(bool& option, bool on) noexcept
    {
        option = on;
        return *this;
    }

    std::vector<lower> lowers_;
    std::optional<mount_directory> upper_, work_;
    std::string source_ = "overmount";
    bool read_only_ = false, nosuid_ = false, nodev_ = false, noexec_ = false;
    bool userxattr_ = false, is_volatile_ = false;
};

/// One option of a mount; flags have no value.
struct mount_option
{
    std::string key;
    std::optional<std::string> value;
    friend bool operator==(const mount_option&, const mount_option&) = default;
};

/// The options in the order in which fsconfig is given them: the source, lower directories topmost first,
/// upper, work, features. What overlayfs takes from module defaults elsewhere is always given, so that a
/// mount means the same on every machine.
OVERMOUNT_LAZY [[nodiscard]] std::vector<mount_option> option_list(const mount_spec& spec);

/// The options as one string for mount(2), which takes the source and the flags by themselves.
///
/// *Errors*: `errc::mount_cannot_proceed` where they are longer than the 4095 bytes that the kernel reads: it
/// would cut the string without a word and mount something else.
OVERMOUNT_LAZY [[nodiscard]] std::string legacy_options(const mount_spec& spec);

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/mount_spec.ipp>
#endif

#endif
