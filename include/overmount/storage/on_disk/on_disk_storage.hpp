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

namespace overmount::OVERMOUNT_ABI {

/// Keeps each diff as an unpacked directory that overlayfs can use as a lower directory: the default, for containers.
///
/// *On disk*: `diffs/<algorithm>/<hex>/rootfs/`, `diff.json` and `recipe`, which describes how to reproduce the tar from the
/// files in `rootfs/` and in `aside/`. `aside/` keeps the files that a later entry of the same tar replaced, and exists only
/// if there are any. Whiteouts are character devices 0:0; opaque directories have the xattr `trusted.overlay.opaque`.
/// *Concurrency*: see `storage_policy`; writers are independent of each other.
class on_disk_storage
{
public:
    class writer;
    class reader;

    explicit on_disk_storage(storage_place place) : diffs_(place) {}

    [[nodiscard]] static constexpr std::string_view form() noexcept { return "directory"; }

    [[nodiscard]] writer create(const write_context& context);
    /// False for a diff of an earlier boot that was never synced, because a power cut may have emptied its files, and for a diff
    /// that is marked as damaged.
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
    [[nodiscard]] lower_directory lower(const diff_id& id) const;
    /// Reproduces the diff's tar, bit for bit. Throws `errc::layer_not_found`, or `errc::missing_recipe`.
    [[nodiscard]] reader pack(const diff_id& id) const;
    /// Compares the tree with a tree that is unpacked from the recipe without file data, and the digest of the reproduced tar
    /// with the diff's ID.
    void verify(const diff_id& id, const verify_context& context) const;

private:
    void compare_with_recipe(const diff_id& id, const verify_context& context) const;

    detail::diff_directory diffs_;
};

/// Unpacks one diff. See `spreading_writer`: it creates the tree, and defers the data and the attributes of files.
class on_disk_storage::writer
{
public:
    /// Data and attributes of some files, for another worker: see `spreading_writer`.
    class deferred
    {
    public:
        void run() { files_.run(); }

    private:
        friend class writer;
        detail::unfinished_files files_;
    };

    writer(writer&&) noexcept;
    writer& operator=(writer&&) noexcept;
    ~writer();

    void write(std::span<const std::byte> bytes);
    [[nodiscard]] bool write_part(std::span<const std::byte>& bytes, deferred& work);
    [[nodiscard]] diff_record finish();
    void rewrite(const diff_record& record);
    bool publish(const diff_id& id);
    void replace(const diff_id& id);

private:
    friend class on_disk_storage;
    struct state;
    explicit writer(std::unique_ptr<state> implementation) noexcept;
    std::unique_ptr<state> state_;
};

/// Reproduces the tar of one diff. Uses a fixed amount of memory, plus one record for each file in `aside/`.
///
/// *Concurrency*: one thread at a time; readers are independent of each other. If the diff is erased meanwhile, `read`
/// fails.
class on_disk_storage::reader
{
public:
    reader(reader&&) noexcept;
    reader& operator=(reader&&) noexcept;
    ~reader();

    /// Reads the next bytes of the tar; blocks only on the disk. Fills `into` completely except at the end of the tar;
    /// returns 0 after it.
    ///
    /// *Errors*: `errc::diff_changed`, with the layer and the path, if a file is missing or its type, size or content differs
    /// from what was unpacked; some of its bytes may have been returned before. `errc::invalid_asset` if the recipe is damaged.
    /// After an error the reader can only be destroyed.
    [[nodiscard]] std::size_t read(std::span<std::byte> into);

private:
    friend class on_disk_storage;
    struct state;
    void leave_file(); // skips the rest of the current file after a failure
    explicit reader(std::unique_ptr<state> implementation) noexcept;
    std::unique_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/on_disk/impl/on_disk_reader.ipp>
#include <overmount/storage/on_disk/impl/on_disk_storage.ipp>
#include <overmount/storage/on_disk/impl/on_disk_verify.ipp>
#endif

#endif
