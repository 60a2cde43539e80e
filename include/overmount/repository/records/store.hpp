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

namespace overmount::inline OVERMOUNT_ABI::detail {

// The directories of one repository as they are opened (design.md, section 2).
struct store_directories
{
    OVERMOUNT_LAZY store_directories(const header_record& header, int base);
    unique_fd diffs, layers, images, manifests, tags, blobs, mounts, imports, leases, claims, tmp;
};

// The records of one repository; knows nothing of what a diff holds. Look-ups take no lock: a record appears by one rename
// and is read at once. All members may be called from any thread at the same time.
class store
{
public:
    // Opens, or makes, the repository at `base`. `form` is what the storage writes; `owner` is whom it belongs to, where
    // that is not the caller.
    OVERMOUNT_LAZY store(const std::filesystem::path& base, std::string_view form, bool allow_others,
                         std::optional<uid_t> owner = std::nullopt);

    [[nodiscard]] const std::filesystem::path& base() const noexcept { return header_.base(); }
    [[nodiscard]] int base_fd() const noexcept { return header_.fd(); }
    [[nodiscard]] int diffs() const noexcept { return directories_.diffs.get(); }
    [[nodiscard]] int mounts() const noexcept { return directories_.mounts.get(); }
    // It can be read alone: its file system, or its features, do not let this version write.
    [[nodiscard]] bool read_only() const noexcept { return header_.read_only(); }

    // An attempt at the repository's lock. Throws `unsupported_repository`, or EROFS, where it may only be read. The first one
    // that is had notes in repository.json what earlier versions do not know. It does not outlive this.
    OVERMOUNT_LAZY [[nodiscard]] repository_lock lock(lock_kind kind) const;

    // Images and tags, those of imports that are committed and not applied yet among them. A listing leaves out what is damaged,
    // and tells of it; who looks for one thing is told by an exception. A listing holds nobody up, until each of several
    // attempts has met another commit: then it keeps others from the lock for the next.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> image(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> images(const damage_listener& damaged = {}) const;
    OVERMOUNT_LAZY [[nodiscard]] std::optional<tag_record> tag(std::string_view name) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<tag_record> tags(const damage_listener& damaged = {}) const;

    // Diffs of storages that name what they keep by the digest.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> kept_diffs() const;
    // Makes the renames of diffs to their places last: syncs `diffs` and the directories in it.
    OVERMOUNT_LAZY void sync_diffs() const;

    // Puts what somebody who died has committed into its place, if nobody is in the way; others read it all the same.
    OVERMOUNT_LAZY void apply_abandoned() const noexcept;
    // Moves aside what dead owners left, and removes leases that are over: says how many. The caller holds the lock exclusively.
    OVERMOUNT_LAZY std::uint64_t set_dead_aside() const;
    // Removes what dead owners left: what of it has to be set aside first only where nobody has the lock at the moment.
    OVERMOUNT_LAZY void sweep() const noexcept;

private:
    // What `read` lists, as at one moment.
    template <class Read>
    [[nodiscard]] auto listed(const Read& read, const damage_listener& damaged) const
    {
        std::optional<repository_lock> lock; // nothing is changed: the feature is not noted
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

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/store.ipp>
#endif

#endif
