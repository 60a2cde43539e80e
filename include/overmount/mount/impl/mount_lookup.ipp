#ifndef OVERMOUNT_MOUNT_IMPL_MOUNT_LOOKUP_IPP
#define OVERMOUNT_MOUNT_IMPL_MOUNT_LOOKUP_IPP

#include <overmount/mount/mount_lookup.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/posix/unique_fd.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Parts of the kernel's interface that the C library's headers lack (linux/mount.h, linux/stat.h of Linux 6.8).
namespace kernel {

inline constexpr long statmount = 457;
inline constexpr std::uint64_t statmount_mnt_basic = 0x2, statmount_mnt_point = 0x10;
inline constexpr unsigned statx_mnt_id_unique = 0x4000;

struct mount_request
{
    std::uint32_t size = 24, spare = 0;
    std::uint64_t id = 0, wanted = 0;
};
static_assert(sizeof(mount_request) == 24);

// Offsets in struct statx and struct statmount.
inline constexpr std::size_t statx_mask_at = 0, statx_mnt_id_at = 144, statx_size = 256;
inline constexpr std::size_t mask_at = 8, old_id_at = 56, point_at = 108, text_at = 512;

template <class Number>
Number number_at(const std::byte* from) noexcept
{
    Number out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

} // namespace kernel

OVERMOUNT_DECL std::uint64_t mount_namespace()
{
    struct stat status;
    return ::stat("/proc/self/ns/mnt", &status) == 0 ? status.st_ino : 0;
}

OVERMOUNT_DECL std::uint64_t unique_mount_id(int fd) noexcept
{
    alignas(8) std::array<std::byte, kernel::statx_size> out{};
    // Kernels before 6.8 do not know this bit and leave it out of the returned mask.
    if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kernel::statx_mnt_id_unique, out.data()) != 0 ||
        (kernel::number_at<std::uint32_t>(out.data() + kernel::statx_mask_at) & kernel::statx_mnt_id_unique) == 0)
        return 0;
    return kernel::number_at<std::uint64_t>(out.data() + kernel::statx_mnt_id_at);
}

OVERMOUNT_DECL std::uint64_t mountinfo_id(int fd)
{
    const std::string text = read_file(AT_FDCWD, "/proc/self/fdinfo/" + std::to_string(fd), 1 << 20).value_or("");
    static constexpr std::string_view label = "mnt_id:\t";
    const auto at = text.find(label);
    std::uint64_t out = 0;
    if (at != std::string::npos)
        std::from_chars(text.data() + at + label.size(), text.data() + text.size(), out);
    return out;
}

OVERMOUNT_DECL bool is_mount_root(int fd)
{
    const unique_fd above(checked(::openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC), "open", ".."));
    return mountinfo_id(above.get()) != mountinfo_id(fd);
}

OVERMOUNT_DECL mount_identity identity_of(int root, std::string source)
{
    mount_identity out;
    out.boot = boot_id();
    out.mount_namespace = mount_namespace();
    out.id = unique_mount_id(root);
    out.number = mountinfo_id(root);
    struct stat status;
    checked(::fstat(root, &status), "stat");
    out.device = status.st_dev;
    out.source = std::move(source);
    return out;
}

// nullopt if the kernel refuses the call. Number 0 means that this namespace has no such mount.
inline std::optional<found_mount> ask_statmount(std::uint64_t id)
{
    kernel::mount_request request;
    request.id = id;
    request.wanted = kernel::statmount_mnt_basic | kernel::statmount_mnt_point;
    std::vector<std::byte> answer(kernel::text_at + 4096);
    while (::syscall(kernel::statmount, &request, answer.data(), answer.size(), 0) != 0) {
        if (errno == ENOENT)
            return found_mount();
        if (errno != EOVERFLOW || answer.size() > (1u << 20))
            return std::nullopt;
        answer.resize(2 * answer.size());
    }
    const auto mask = kernel::number_at<std::uint64_t>(answer.data() + kernel::mask_at);
    if ((mask & request.wanted) != request.wanted)
        return std::nullopt;
    found_mount out;
    out.number = kernel::number_at<std::uint32_t>(answer.data() + kernel::old_id_at);
    const std::size_t text = kernel::text_at + kernel::number_at<std::uint32_t>(answer.data() + kernel::point_at);
    if (text < answer.size()) {
        const auto* first = reinterpret_cast<const char*>(answer.data() + text);
        out.path.assign(first, ::strnlen(first, answer.size() - text));
    }
    return out;
}

inline bool matches(const mountinfo_entry& entry, const mount_identity& wanted)
{
    return entry.source == wanted.source && entry.fs_type == "overlay" && entry.root == "/" &&
           (wanted.device == 0 || entry.device == wanted.device) && (wanted.number == 0 || entry.id == wanted.number);
}

OVERMOUNT_DECL std::optional<found_mount> find_mount(const mount_identity& wanted, const std::string& hint)
{
    if (!wanted.boot.empty() && wanted.boot != boot_id())
        return std::nullopt;
    if (wanted.id != 0)
        if (auto current = ask_statmount(wanted.id))
            return current->path.empty() ? std::nullopt : std::move(current);
    if (wanted.source.empty() || (wanted.mount_namespace != 0 && wanted.mount_namespace != mount_namespace()))
        return std::nullopt; // the copy of a mount in another namespace is a different mount
    const auto now = mountinfo::read();
    std::optional<found_mount> out;
    for (const mountinfo_entry& entry : now.entries())
        if (matches(entry, wanted) && (!out || (entry.mount_point == hint && out->path != hint)))
            out = found_mount{entry.mount_point, entry.id};
    return out;
}

OVERMOUNT_DECL bool lies_in(int fd, const mount_identity& wanted, const found_mount& found)
{
    if (const std::uint64_t id = wanted.id != 0 ? unique_mount_id(fd) : 0)
        return id == wanted.id;
    return mountinfo_id(fd) == found.number;
}

OVERMOUNT_DECL bool is_attached(const mount_identity& wanted, const found_mount& found)
{
    if (wanted.id != 0)
        if (const auto current = ask_statmount(wanted.id))
            return current->number != 0;
    const auto now = mountinfo::read();
    return std::any_of(now.entries().begin(), now.entries().end(), [&](const mountinfo_entry& entry) {
        return entry.id == found.number && matches(entry, wanted);
    });
}

OVERMOUNT_DECL bool superblock_is_gone([[maybe_unused]] std::uint64_t device) noexcept
{
#ifdef SYS_ustat
    // The kernel's 32-bit device number is the lower half of the C library's dev_t.
    if (device == 0 || device > 0xffffffffu)
        return false;
    alignas(8) std::array<std::byte, 64> unused{};
    return ::syscall(SYS_ustat, static_cast<unsigned>(device), unused.data()) != 0 && errno == EINVAL;
#else
    return false; // arm64 and others have no ustat(2)
#endif
}

OVERMOUNT_DECL bool device_number_was_reused(const mountinfo& now, const mount_identity& wanted) noexcept
{
    return !wanted.source.empty() && std::any_of(now.entries().begin(), now.entries().end(), [&](const mountinfo_entry& entry) {
        return entry.device == wanted.device && entry.source != wanted.source;
    });
}

// mountinfo is not complete if the root directory is not a mount point, or if process 1 sees that mount at another path.
OVERMOUNT_DECL bool lists_all_mounts(const mountinfo& now)
{
    const mountinfo_entry* root = now.find_by_target("/");
    if (root == nullptr)
        return false;
    const auto first = mountinfo::parse(read_file(AT_FDCWD, "/proc/1/mountinfo", 256u << 20).value_or(""));
    return std::none_of(first.entries().begin(), first.entries().end(), [root](const mountinfo_entry& entry) {
        return entry.id == root->id && entry.mount_point != "/";
    });
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
