#ifndef OVERMOUNT_STORAGE_ON_DISK_STORAGE_HPP
#define OVERMOUNT_STORAGE_ON_DISK_STORAGE_HPP

#include <overmount/concepts/storage_policy.hpp>
#include <overmount/detail/fs.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// Keeps each diff as a directory in the form that overlayfs stacks: the default, for containers.
///
/// *On disk*: `diffs/<algorithm>/<hex>/rootfs/` and `diff.json`. Whiteouts are character devices 0:0, opaque
/// directories carry `trusted.overlay.opaque`.
/// *Concurrency*: as `storage_policy` says; writers are independent of each other.
class on_disk_storage
{
public:
    class writer;

    explicit on_disk_storage(storage_place place) : place_(place), boot_(detail::boot_id()) {}

    [[nodiscard]] static constexpr std::string_view form() noexcept { return "directory"; }

    [[nodiscard]] writer create(const write_context& context);
    /// A diff of an earlier boot that was never synced does not count: a power cut may have emptied its files.
    [[nodiscard]] bool contains(const diff_id& id) const;
    [[nodiscard]] diff_record record(const diff_id& id) const;
    void erase(const diff_id& id);
    [[nodiscard]] lower_directory lower(const diff_id& id) const;

private:
    storage_place place_;
    std::string boot_;
};

/// Unpacks one diff. See `diff_writer`.
class on_disk_storage::writer
{
public:
    writer(writer&&) noexcept;
    writer& operator=(writer&&) noexcept;
    ~writer();

    void write(std::span<const std::byte> bytes);
    [[nodiscard]] diff_record finish();
    bool publish(const diff_id& id);

private:
    friend class on_disk_storage;
    struct state;
    explicit writer(std::unique_ptr<state> implementation) noexcept;
    std::unique_ptr<state> state_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/impl/on_disk_storage.ipp>
#endif

#endif
