#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPORT_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPORT_RECORDS_HPP

#include <overmount/repository/records/image_records.hpp>
#include <overmount/repository/records/tag_records.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Called with the error for each damaged record that a listing leaves out.
using damage_listener = std::function<void(const error&)>;

// The images and tags that an import commits by one rename. Until they are applied, readers see them as if they were in place.
class import_record
{
public:
    struct image
    {
        digest id;
        std::string config;
        bool durable; // all that the image refers to is durable
    };
    std::vector<image> images;
    std::vector<tag_record> tags;

    // Throws `json_limit_exceeded` if the record would be too large.
    [[nodiscard]] std::string text() const;
    [[nodiscard]] static import_record parse(std::string_view text);
};

// The commit records of imports: `imports/<id>.json`, each until its images and tags are applied, that is, written to their own
// records. An import commits and applies under the lock of the roots; a record that exists while the lock is free was left by a
// process that died.
class import_records
{
public:
    // \param directory -1 if it does not exist yet
    import_records(int directory, int staging, image_records images, tag_records tags) noexcept
        : directory_(directory), staging_(staging), images_(images), tags_(tags)
    {
    }

    [[nodiscard]] int directory() const noexcept { return directory_; }
    // A unique name for a new record.
    [[nodiscard]] static std::string new_name() { return random_id() + ".json"; }

    using records = std::vector<std::pair<std::string, import_record>>;
    // The records that are not applied yet, with their names. Damaged ones are left out and reported to `damaged`.
    [[nodiscard]] records pending(const damage_listener& damaged = {}) const;
    [[nodiscard]] std::vector<std::string> pending_names() const; // sorted

    // Applies and removes all pending records. The caller holds the lock of the roots.
    void apply_all(durability sync) const;
    // Tells concurrent listings that a record was committed, by replacing the file `last`. The caller holds the lock of the roots,
    // and has applied nothing of the record yet.
    void announce() const;
    // Removes a record. All of it has been applied, and made durable where that was asked for.
    void remove(const std::string& name) const;
    // Makes the removal of records durable. Called before an image or tag is removed: a record that came back would restore it.
    void make_removals_last() const;

    // The result of `read(pending, listener)`, consistent at one moment: `read` is called again if an import was committed
    // meanwhile. After several rounds, `hold` is called before each further one: it returns whether it now keeps others from
    // committing.
    template <class Read>
    [[nodiscard]] auto consistently(const Read& read, const damage_listener& damaged, const std::function<bool()>& hold) const
    {
        for (unsigned round = 0;; ++round) {
            const bool held = round >= rounds_without_lock && hold();
            std::vector<error> found;
            const auto note = [&found](const error& failure) { found.push_back(failure); };
            const unique_fd before = last();
            const auto changed = changed_at();
            const std::vector<std::string> there = pending_names();
            auto out = read(readable(there, note), note);
            if (!held && (!is_last(before) || changed != changed_at() || there != pending_names()))
                continue;
            for (const error& failure : found)
                if (damaged)
                    damaged(failure);
            return out;
        }
    }

private:
    static constexpr unsigned rounds_without_lock = 4;

    // Opens the file `last`, which each commit replaces. While it is open, no other file can get its inode number.
    [[nodiscard]] unique_fd last() const;
    [[nodiscard]] bool is_last(const unique_fd& file) const;
    // The records with these names that still exist.
    [[nodiscard]] records readable(const std::vector<std::string>& names, const damage_listener& damaged) const;
    // The directory's modification time: it also changes for a record that was committed and removed meanwhile.
    [[nodiscard]] std::int64_t changed_at() const;

    int directory_, staging_;
    image_records images_;
    tag_records tags_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/import_records.ipp>
#endif

#endif
