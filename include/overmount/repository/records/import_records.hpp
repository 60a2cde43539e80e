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

namespace overmount::inline OVERMOUNT_ABI::detail {

// Hears of a record that a listing leaves out, since it is damaged.
using damage_listener = std::function<void(const error&)>;

// What an import shows by one rename: its images and tags, which others read as if they were in their places.
class import_record
{
public:
    struct image
    {
        digest id;
        std::string config;
        bool durable; // all that it leads to lasts
    };
    std::vector<image> images;
    std::vector<tag_record> tags;

    // Throws `json_limit_exceeded` for more than a record may have.
    OVERMOUNT_LAZY [[nodiscard]] std::string text() const;
    OVERMOUNT_LAZY [[nodiscard]] static import_record parse(std::string_view text);
};

// `imports/<id>.json`: the commit points of imports, each until its images and tags are in their places. Who holds the lock
// of the roots commits and applies; what else is there was left by somebody who died.
class import_records
{
public:
    // \param directory -1 where there is none yet
    import_records(int directory, int staging, image_records images, tag_records tags) noexcept
        : directory_(directory), staging_(staging), images_(images), tags_(tags)
    {
    }

    [[nodiscard]] int directory() const noexcept { return directory_; }
    // A name for a record of its own.
    OVERMOUNT_LAZY [[nodiscard]] static std::string new_name() { return random_id() + ".json"; }

    using records = std::vector<std::pair<std::string, import_record>>;
    // Those that are not applied yet, by their names. One that cannot be read is told to `damaged`, and hides no other.
    OVERMOUNT_LAZY [[nodiscard]] records pending(const damage_listener& damaged = {}) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> pending_names() const; // sorted

    // Puts all of them into their places, and removes them. The caller holds the lock of the roots.
    OVERMOUNT_LAZY void apply_all(durability sync) const;
    // A record was shown: others see from now on that something changed. The caller holds the lock of the roots, and has put
    // nothing into its place yet.
    OVERMOUNT_LAZY void announce() const;
    // All of it is in its place, and lasts where it should.
    OVERMOUNT_LAZY void remove(const std::string& name) const;
    // Makes the removal of records last: what they brought is going to be removed.
    OVERMOUNT_LAZY void make_removals_last() const;

    // What `read(pending, listener)` gives, as at one moment: it is called again where an import was committed meanwhile. Where
    // that goes on and on, `hold` is asked before each time whether nobody commits from now on.
    template <class Read>
    [[nodiscard]] auto consistently(const Read& read, const damage_listener& damaged, const std::function<bool()>& hold) const
    {
        for (unsigned round = 0;; ++round) {
            const bool held = round >= rounds_beside_others && hold();
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
    static constexpr unsigned rounds_beside_others = 4;

    // The file `last`, which each commit replaces; while it is open, no other has its inode.
    OVERMOUNT_LAZY [[nodiscard]] unique_fd last() const;
    OVERMOUNT_LAZY [[nodiscard]] bool is_last(const unique_fd& file) const;
    // Of these names, those that are there still.
    OVERMOUNT_LAZY [[nodiscard]] records readable(const std::vector<std::string>& names, const damage_listener& damaged) const;
    // Of the directory: a commit that was forgotten meanwhile shows in it.
    OVERMOUNT_LAZY [[nodiscard]] std::int64_t changed_at() const;

    int directory_, staging_;
    image_records images_;
    tag_records tags_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/import_records.ipp>
#endif

#endif
