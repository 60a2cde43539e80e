// Common parts of the storages that keep each diff in a directory `diffs/<algorithm>/<hex>/` with a `diff.json`.
#ifndef OVERMOUNT_STORAGE_DIFF_DIRECTORY_HPP
#define OVERMOUNT_STORAGE_DIFF_DIRECTORY_HPP

#include <overmount/core/digest_path.hpp>
#include <overmount/storage/storage_policy.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// The path of a diff, relative to `diffs/`.
[[nodiscard]] inline std::string directory_of(const diff_id& id) { return digest_path(id.value()); }

class diff_directory
{
public:
    explicit diff_directory(storage_place place);

    [[nodiscard]] const storage_place& place() const noexcept { return place_; }
    [[nodiscard]] const std::string& boot() const noexcept { return boot_; }

    // True if the diff exists and can be trusted. False for a diff of an earlier boot that was never synced, because a power cut
    // may have emptied its files, and for a diff that is marked as damaged or has a damaged record.
    [[nodiscard]] bool contains(const diff_id& id) const;

    // See `markable_storage`. The mark is a file `damaged` in the diff's directory.
    [[nodiscard]] bool is_damaged(const diff_id& id) const;
    [[nodiscard]] diff_version version(const diff_id& id) const;
    [[nodiscard]] bool is_current(const diff_id& id, const diff_version& version) const;
    static void mark_damaged(const diff_version& version, int staging);
    static void unmark_damaged(const diff_version& version);

    [[nodiscard]] diff_record record(const diff_id& id) const;

    // Opens a file in the diff's directory. Throws `layer_not_found` if it does not exist.
    [[nodiscard]] unique_fd open(const diff_id& id, const char* name) const;

    // See `storage_policy`. Syncs each file through its own descriptor instead of calling syncfs: a write-back error may already
    // have been reported to another caller of syncfs, but each file still reports it to its own first fsync.
    void make_durable(const diff_id& id, int staging, const std::function<void()>& poll) const;

    // See `early_storage`.
    [[nodiscard]] std::uint64_t identity(const diff_id& id) const;
    bool mark_durable(const diff_id& id, std::uint64_t identity, int staging) const;
    // A diff that is not durable also gets a mark file: a power cut may leave the record's name without its content.
    static void rewrite(int staging, const std::string& name, const diff_record& record);

    // See `detaching_storage`.
    bool set_aside(const diff_id& id, int into, const std::string& name) const;

    void erase(const diff_id& id) const;

    // Writes `diff.json`, the last file of a complete diff.
    static void write_record(const storage_place& place, int directory, const diff_record& record);

    // Renames a finished directory to its final path; false if the diff exists already. With `batch` the parent directory is
    // synced later, once for all diffs of the operation, by `repository_state::sync_published`.
    [[nodiscard]] static bool publish(const storage_place& place, int staging, const std::string& name, const diff_id& id);

    // Publishes a diff in place of an existing one. The new directory is first renamed to `<hex>.<n>` and then exchanged with
    // `<hex>`, so that the old diff is complete at every moment. The old diff stays at `<hex>.<n>`, where no lookup by ID finds
    // it, until garbage collection removes it when no mount uses it. Identical file content shares its extents if the file
    // system supports that.
    static void replace(const storage_place& place, int staging, const std::string& name, const diff_id& id);

private:
    // An empty file next to the record; see `rewrite`.
    static constexpr const char* early_mark = "early";

    static void drop_early_mark(int directory);

    [[nodiscard]] std::optional<diff_record> find(const diff_id& id) const;

    storage_place place_;
    std::string boot_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/diff_directory.ipp>
#endif

#endif
