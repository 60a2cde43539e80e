#ifndef OVERMOUNT_REPOSITORY_RECORDS_STORE_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_STORE_HPP

#include <overmount/core/digest.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/repository/records/records.hpp>
#include <overmount/storage/diff_record.hpp>

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

namespace detail {

// The directories and records of one repository (design.md, section 2); knows nothing of what a diff holds.
// Look-ups take no lock: a record appears by one rename and is read at once. All members may be called from any
// thread at the same time.
class store
{
public:
    // Opens, or makes, the repository at `base`. `form` is what the storage writes.
    OVERMOUNT_LAZY store(const std::filesystem::path& base, std::string_view form, bool allow_others);

    [[nodiscard]] const std::filesystem::path& base() const noexcept { return base_; }
    [[nodiscard]] int base_fd() const noexcept { return base_fd_.get(); }
    [[nodiscard]] int diffs() const noexcept { return diffs_.get(); }
    [[nodiscard]] int staging() const noexcept { return tmp_.get(); }
    [[nodiscard]] int mounts() const noexcept { return mounts_.get(); }

    // The caller holds the shared lock while it puts or removes anything.
    OVERMOUNT_LAZY void put_layer(const chain_id& chain, const layer_record& record, durability sync);
    // Of one chain, parents first; they are synced together, and shown in this order.
    OVERMOUNT_LAZY void put_layers(std::span<const std::pair<chain_id, layer_record>> layers, durability sync);
    OVERMOUNT_LAZY [[nodiscard]] std::optional<layer_record> layer(const chain_id& chain) const;
    // From the chain's top to its base; throws layer_not_found for a gap.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<layer_record> chain(const chain_id& top) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<chain_id> layers() const;
    // The directory layers/<algorithm>/<hex>.
    OVERMOUNT_LAZY [[nodiscard]] std::string layer_path(const chain_id& chain) const;

    OVERMOUNT_LAZY void put_image(const digest& id, std::string_view config, durability sync);
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> image(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> images() const;
    OVERMOUNT_LAZY bool remove_image(const digest& id);
    OVERMOUNT_LAZY void put_manifest(const digest& id, std::string_view manifest, durability sync);
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> manifest(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> manifests() const;
    // Diffs of storages that name what they keep by the digest.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> kept_diffs() const;
    // Makes the renames of diffs to their places last: syncs `diffs` and the directories in it.
    OVERMOUNT_LAZY void sync_diffs() const;

    // `blobs/<algorithm>/<hex>`; no descriptor where there is none.
    OVERMOUNT_LAZY [[nodiscard]] unique_fd blob(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> blobs() const;
    OVERMOUNT_LAZY [[nodiscard]] bool contains_blob(const digest& id, std::uint64_t size) const;
    OVERMOUNT_LAZY void put_blob(const digest& id, std::string_view content, durability sync);
    // The same with a finished file `name` of the directory `staging`, whose digest was compared; it stays where it is
    // when the blob is there already.
    OVERMOUNT_LAZY void publish_blob(int staging, const std::string& name, const digest& id, durability sync);

    OVERMOUNT_LAZY void put_tag(const tag_record& record, durability sync);
    OVERMOUNT_LAZY [[nodiscard]] std::optional<tag_record> tag(std::string_view name) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<tag_record> tags() const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> tag_files() const;
    // The tag that a file has; `corrupt_repository` where it has none, or another one's.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<tag_record> tag_in(const std::string& file) const;
    OVERMOUNT_LAZY bool remove_tag(std::string_view name);

    // A directory of the caller's own below tmp/, locked as long as the lock lives.
    struct staging_directory
    {
        std::string name;
        unique_fd fd;
        file_lock lock;
    };
    OVERMOUNT_LAZY [[nodiscard]] staging_directory make_staging();
    OVERMOUNT_LAZY void remove_staging(staging_directory& mine);
    // Removes what dead processes left in tmp/, leases/ and claims/.
    OVERMOUNT_LAZY void sweep();

    // Tells others that these diffs are relied on, as long as the lock lives.
    OVERMOUNT_LAZY [[nodiscard]] file_lock lease(const std::vector<diff_id>& diffs, std::string& name);
    OVERMOUNT_LAZY void end_lease(const std::string& name);

    // Who holds it unpacks the diff. Its file goes with it.
    class claim
    {
    public:
        claim(file_lock lock, int directory, std::string name)
            : lock_(std::move(lock)), directory_(directory), name_(std::move(name))
        {
        }
        claim(claim&& other) noexcept
            : lock_(std::move(other.lock_)), directory_(std::exchange(other.directory_, -1)),
              name_(std::move(other.name_))
        {
        }
        claim& operator=(claim&&) = delete;
        ~claim();
        // Tells who waits that the work goes on.
        OVERMOUNT_LAZY void beat() const;

    private:
        file_lock lock_;
        int directory_;
        std::string name_;
    };
    // Nothing when another holds it.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<claim> try_claim(const diff_id& id);
    // When the holder last made progress; nanoseconds since 1970, 0 when there is no claim.
    OVERMOUNT_LAZY [[nodiscard]] std::int64_t claim_time(const diff_id& id) const;

    // The state of the repository may not change under a collection: both are held for moments. A repository that
    // may only be read gives none: `unsupported_repository`.
    OVERMOUNT_LAZY [[nodiscard]] file_lock lock_shared() const;
    OVERMOUNT_LAZY [[nodiscard]] file_lock lock_exclusive() const;
    // Who holds it may put another diff in the place of one that is not contained. Held for moments as well, and
    // taken last: also by who has the shared lock.
    OVERMOUNT_LAZY [[nodiscard]] file_lock lock_replacement() const;

private:
    // A directory `<algorithm>/<hex>` that holds one file.
    struct directory_record
    {
        digest id;
        std::string content;
    };
    OVERMOUNT_LAZY
    void put_directories(int directory, const char* file, std::span<const directory_record> records, durability sync);
    OVERMOUNT_LAZY void put_record(int directory, const std::string& name, std::string_view content, durability sync,
                                   bool replace) const;
    OVERMOUNT_LAZY void check_header(std::string_view form);
    OVERMOUNT_LAZY void remove_dead(int directory);

    OVERMOUNT_LAZY [[nodiscard]] file_lock lock(file_lock::kind how) const;

    std::filesystem::path base_;
    bool read_only_ = false;
    unique_fd base_fd_, diffs_, layers_, images_, manifests_, tags_, blobs_, mounts_, leases_, claims_, tmp_;
};

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/store.ipp>
#endif

#endif
