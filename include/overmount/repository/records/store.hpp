#ifndef OVERMOUNT_REPOSITORY_RECORDS_STORE_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_STORE_HPP

#include <overmount/repository/records/blob_records.hpp>
#include <overmount/repository/records/claims.hpp>
#include <overmount/repository/records/header_record.hpp>
#include <overmount/repository/records/image_records.hpp>
#include <overmount/repository/records/import_records.hpp>
#include <overmount/repository/records/layer_records.hpp>
#include <overmount/repository/records/leases.hpp>
#include <overmount/repository/records/manifest_records.hpp>
#include <overmount/repository/records/repository_lock.hpp>
#include <overmount/repository/records/staging.hpp>
#include <overmount/repository/records/tag_records.hpp>

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The open directories of one repository (design.md, section 2).
struct store_directories
{
    OVERMOUNT_LAZY store_directories(const header_record& header, int base);
    unique_fd diffs, layers, images, manifests, tags, blobs, mounts, imports, leases, claims, tmp;
};

// The records of one repository; it does not know what a diff contains. Look-ups take no lock: each record appears by one rename
// and is read in one go. All members are thread-safe.
class store
{
public:
    // Opens or creates the repository at `base`. `form` names the form in which the storage policy keeps diffs; `owner` is the user
    // that the repository belongs to if that is not the caller.
    OVERMOUNT_LAZY store(const std::filesystem::path& base, std::string_view form, bool allow_others,
                         std::optional<uid_t> owner = std::nullopt);

    [[nodiscard]] const std::filesystem::path& base() const noexcept { return header_.base(); }
    [[nodiscard]] int base_fd() const noexcept { return header_.fd(); }
    [[nodiscard]] int diffs() const noexcept { return directories_.diffs.get(); }
    [[nodiscard]] int mounts() const noexcept { return directories_.mounts.get(); }
    // Its file system, its permissions or its features do not let this version write.
    [[nodiscard]] bool read_only() const noexcept { return header_.read_only(); }

    // An attempt at the repository's lock; it must not outlive the store. Throws `unsupported_repository`, or EROFS, if the
    // repository is read-only. The first lock that is taken adds this version's feature to repository.json.
    OVERMOUNT_LAZY [[nodiscard]] repository_lock lock(lock_kind kind) const;

    // Images and tags, including those of imports that are committed but not applied yet. A listing leaves out damaged records and
    // reports them to `damaged`; a look-up of one record throws. A listing takes no lock, until several attempts in a row have been
    // disturbed by a commit: then it takes the lock exclusively for the next one.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> image(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> images(const damage_listener& damaged = {}) const;
    OVERMOUNT_LAZY [[nodiscard]] std::optional<tag_record> tag(std::string_view name) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<tag_record> tags(const damage_listener& damaged = {}) const;

    // The diffs, of storage policies that name them by their digests.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> kept_diffs() const;
    // Makes the renames of published diffs durable: syncs `diffs` and its subdirectories.
    OVERMOUNT_LAZY void sync_diffs() const;

    // Applies imports that a dead process has committed, if the lock is free. Readers see these imports in any case.
    OVERMOUNT_LAZY void apply_abandoned() const noexcept;
    // Sets aside the files of dead owners, and removes leases that have ended; returns the number of these leases. The caller holds
    // the lock exclusively.
    OVERMOUNT_LAZY std::uint64_t set_dead_aside() const;
    // Removes the files of dead owners. Those that must be set aside first are removed only if the lock is free.
    OVERMOUNT_LAZY void sweep() const noexcept;

private:
    // The result of `read`, consistent at one moment.
    template <class Read>
    [[nodiscard]] auto listed(const Read& read, const damage_listener& damaged) const
    {
        std::optional<repository_lock> lock; // without note_feature: a listing changes nothing
        const auto hold = [&] {
            if (!lock && !read_only())
                lock.emplace(base_fd(), lock_kind::exclusive);
            return lock && lock->try_take();
        };
        return imports.consistently(read, damaged, hold);
    }

    header_record header_;
    store_directories directories_;

public:
    const staging_area staging;
    const layer_records layers;
    const image_records image_files;
    const manifest_records manifests;
    const tag_records tag_files;
    const blob_records blobs;
    const import_records imports;
    const lease_table leases;
    const claim_table claims;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/store.ipp>
#endif

#endif
