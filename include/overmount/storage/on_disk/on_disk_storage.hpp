#ifndef OVERMOUNT_STORAGE_ON_DISK_ON_DISK_STORAGE_HPP
#define OVERMOUNT_STORAGE_ON_DISK_ON_DISK_STORAGE_HPP

#include <overmount/storage/diff_directory.hpp>
#include <overmount/storage/on_disk/unfinished_files.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// Keeps each diff as a directory in the form that overlayfs stacks: the default, for containers.
///
/// *On disk*: `diffs/<algorithm>/<hex>/rootfs/`, `diff.json` and `recipe`, which says how to make the tar again of the
/// files in `rootfs`, and in `aside/` where there are any that a later entry of the tar replaced. Whiteouts are
/// character devices 0:0, opaque directories carry `trusted.overlay.opaque`.
/// *Concurrency*: as `storage_policy` says; writers are independent of each other.
class on_disk_storage
{
public:
    class writer;
    class reader;

    explicit on_disk_storage(storage_place place) : diffs_(place) {}

    [[nodiscard]] static constexpr std::string_view form() noexcept { return "directory"; }

    OVERMOUNT_LAZY [[nodiscard]] writer create(const write_context& context);
    /// A diff of an earlier boot that was never synced does not count: a power cut may have emptied its files. Nor does one that
    /// was found damaged.
    [[nodiscard]] bool contains(const diff_id& id) const { return diffs_.contains(id); }
    [[nodiscard]] diff_record record(const diff_id& id) const { return diffs_.record(id); }
    void erase(const diff_id& id) { diffs_.erase(id); }
    bool set_aside(const diff_id& id, int into, const std::string& name) { return diffs_.set_aside(id, into, name); }
    void make_durable(const diff_id& id, int staging, const std::function<void()>& poll) { diffs_.make_durable(id, staging, poll); }
    [[nodiscard]] std::uint64_t identity(const diff_id& id) const { return diffs_.identity(id); }
    bool mark_durable(const diff_id& id, std::uint64_t identity, int staging) const { return diffs_.mark_durable(id, identity, staging); }
    [[nodiscard]] bool is_damaged(const diff_id& id) const { return diffs_.is_damaged(id); }
    [[nodiscard]] diff_version version(const diff_id& id) const { return diffs_.version(id); }
    [[nodiscard]] bool is_current(const diff_id& id, const diff_version& one) const { return diffs_.is_current(id, one); }
    void mark_damaged(const diff_version& one, int staging) const { diffs_.mark_damaged(one, staging); }
    void unmark_damaged(const diff_version& one) const { diffs_.unmark_damaged(one); }
    OVERMOUNT_LAZY [[nodiscard]] lower_directory lower(const diff_id& id) const;
    /// The diff's tar, bit for bit. Throws `errc::layer_not_found`, or `errc::missing_recipe`.
    OVERMOUNT_LAZY [[nodiscard]] reader pack(const diff_id& id) const;
    /// Compares the tree with what the recipe says, and the tar that they make with the diff's ID. Unpacks the recipe
    /// without data for that.
    OVERMOUNT_LAZY void verify(const diff_id& id, const verify_context& context) const;

private:
    OVERMOUNT_LAZY void compare_with_recipe(const diff_id& id, const verify_context& context) const;

    detail::diff_directory diffs_;
};

/// Unpacks one diff. See `spreading_writer`: it makes the tree, and leaves the data and the attributes of files to the rest.
class on_disk_storage::writer
{
public:
    using rest = detail::unfinished_files;

    writer(writer&&) noexcept;
    writer& operator=(writer&&) noexcept;
    ~writer();

    OVERMOUNT_LAZY void write(std::span<const std::byte> bytes);
    OVERMOUNT_LAZY [[nodiscard]] bool write_part(std::span<const std::byte>& bytes, rest& left);
    OVERMOUNT_LAZY [[nodiscard]] diff_record finish();
    OVERMOUNT_LAZY void rewrite(const diff_record& record);
    OVERMOUNT_LAZY bool publish(const diff_id& id);
    OVERMOUNT_LAZY void replace(const diff_id& id);

private:
    friend class on_disk_storage;
    struct state;
    OVERMOUNT_LAZY explicit writer(std::unique_ptr<state> implementation) noexcept;
    std::unique_ptr<state> state_;
};

/// Gives back the tar of one diff. Takes a fixed amount of memory, but for what the tar replaces within itself.
///
/// *Concurrency*: one thread at a time; readers are independent of each other. The diff may be erased meanwhile: the
/// reader then fails.
class on_disk_storage::reader
{
public:
    reader(reader&&) noexcept;
    reader& operator=(reader&&) noexcept;
    ~reader();

    /// The next bytes of the tar; blocks only on the disk. Fewer than `into` only at the end, where it gives 0.
    ///
    /// Each file that is read must be the one that was unpacked: `errc::diff_changed` names the layer and the path of
    /// one that is missing, or has another type, size or content. Its bytes may have been given by then. Throws
    /// `errc::invalid_asset` when the recipe is damaged. After an error it can only be destroyed.
    OVERMOUNT_LAZY [[nodiscard]] std::size_t read(std::span<std::byte> into);

private:
    friend class on_disk_storage;
    struct state;
    OVERMOUNT_LAZY void leave_file(); // after a failure
    OVERMOUNT_LAZY explicit reader(std::unique_ptr<state> implementation) noexcept;
    std::unique_ptr<state> state_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/on_disk_reader.ipp>
#include <overmount/storage/on_disk/impl/on_disk_storage.ipp>
#include <overmount/storage/on_disk/impl/on_disk_verify.ipp>
#endif

#endif
