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

namespace overmount::OVERMOUNT_ABI {

/// A directory for a mount: a descriptor, a path, or both; or a path and a function that opens it. Copies share an owned
/// descriptor.
///
/// The descriptor is preferred; it may be opened with O_PATH, or belong to a detached or an idmapped mount. If there is a path
/// as well, it must name the same directory: older kernels are given the path, and mountinfo shows it.
class mount_directory
{
public:
    explicit mount_directory(std::string path) : path_(std::move(path)) {}
    /// Owns `fd`. An empty `fd` is the same as none.
    explicit mount_directory(unique_fd fd, std::string path = {})
        : owned_(detail::new_shared<const unique_fd>(std::move(fd))), path_(std::move(path))
    {}
    /// Shares a descriptor with others.
    explicit mount_directory(std::shared_ptr<const unique_fd> fd, std::string path = {})
        : owned_(std::move(fd)), path_(std::move(path))
    {}
    /// Opens the directory only while it is given to the kernel, so that the number of open descriptors does not grow with the
    /// number of lower directories. `path` names the same directory.
    explicit mount_directory(std::function<std::shared_ptr<const unique_fd>()> open, std::string path)
        : open_(std::move(open)), path_(std::move(path))
    {}
    /// Uses `fd` without owning it. It must stay open as long as this object or a copy of it is used to mount.
    [[nodiscard]] static mount_directory borrowed(int fd, std::string path = {})
    {
        mount_directory out(std::move(path));
        out.borrowed_ = fd;
        return out;
    }

    /// The same directory; opens it if it has a function for that.
    [[nodiscard]] mount_directory opened() const { return open_ ? mount_directory(open_(), path_) : *this; }
    /// The descriptor, or -1.
    [[nodiscard]] int fd() const noexcept { return owned_ ? owned_->get() : borrowed_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// A path that system calls of this process can use: the path, or `/proc/self/fd/N` if there is none.
    [[nodiscard]] std::string name() const;

private:
    std::function<std::shared_ptr<const unique_fd>()> open_;
    std::shared_ptr<const unique_fd> owned_;
    int borrowed_ = -1;
    std::string path_;
};

/// A lower directory, which overlayfs only reads.
using lower = mount_directory;

/// Describes a mount: its directories and options. Makes no system calls.
///
/// The mount is private: later mounts inside it do not propagate to other namespaces.
class mount_spec
{
public:
    /// The largest number of lower directories that overlayfs accepts.
    static constexpr std::size_t max_lowers = 500;

    /// Adds a directory below those added before: the first one is topmost.
    mount_spec& add_lower(lower directory)
    {
        lowers_.push_back(std::move(directory));
        return *this;
    }
    /// Sets all lower directories, topmost first.
    mount_spec& lowers(std::vector<lower> directories)
    {
        lowers_ = std::move(directories);
        return *this;
    }
    /// The directory that changes are written to. It needs a work directory on the same file system.
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
    /// The mount source that mountinfo shows: at most 255 bytes.
    mount_spec& source(std::string text)
    {
        source_ = std::move(text);
        return *this;
    }
    mount_spec& read_only(bool on) { return set(read_only_, on); }
    mount_spec& nosuid(bool on) { return set(nosuid_, on); }
    mount_spec& nodev(bool on) { return set(nodev_, on); }
    mount_spec& noexec(bool on) { return set(noexec_, on); }
    /// overlayfs uses the xattrs `user.overlay.*` instead of `trusted.overlay.*`: for user namespaces.
    mount_spec& userxattr(bool on) { return set(userxattr_, on); }
    /// overlayfs syncs nothing: the upper directory is lost after a crash. The kernel refuses to use the work directory again
    /// until `work/incompat/volatile` in it is removed. Has no effect without an upper directory.
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

    /// Checks for mistakes that overlayfs would refuse without giving a reason.
    ///
    /// *Errors*: `errc::too_many_layers` for more than `max_lowers` directories; `errc::mount_not_possible` for no
    /// lower directory, for an upper without a work directory or the reverse, for a single lower without an upper (add an
    /// empty directory at the bottom), and for names that are empty, too long or contain a NUL.
    void validate() const;

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

/// One mount option; flags have no value.
struct mount_option
{
    std::string key;
    std::optional<std::string> value;
    friend bool operator==(const mount_option&, const mount_option&) = default;
};

/// The options in the order in which they are passed to fsconfig: the source, lower directories topmost first, upper, work,
/// features. Features that default to module parameters are always given, so that a mount behaves the same on every machine.
[[nodiscard]] std::vector<mount_option> option_list(const mount_spec& spec);

/// The options as one string for mount(2), without the source and the flags, which are arguments of their own.
///
/// *Errors*: `errc::mount_not_possible` for more than the 4095 bytes that the kernel reads: it would truncate the string
/// silently and mount something else.
[[nodiscard]] std::string legacy_options(const mount_spec& spec);

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/mount/impl/mount_spec.ipp>
#endif

#endif
