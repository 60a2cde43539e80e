// Writes, publishes and syncs the records (small files) of a repository.
#ifndef OVERMOUNT_STORAGE_RECORD_FILE_HPP
#define OVERMOUNT_STORAGE_RECORD_FILE_HPP

#include <overmount/core/digest_path.hpp>
#include <overmount/core/durability.hpp>
#include <overmount/posix/fs.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

inline constexpr std::uint64_t record_limit = 64ull << 20; // bytes

// Returns the result of `read`. Adds the record's path in the repository to a `corrupt_repository` error.
template <class Read>
auto in_record(const std::string& path, const Read& read)
{
    try {
        return read();
    } catch (const error& failure) {
        if (failure.code() != errc::corrupt_repository)
            throw;
        throw error(errc::corrupt_repository).at(stage::repository).subject(path).detail(failure.detail());
    }
}

// What to do if the record exists already.
enum class existing
{
    keep, // keep it if its content is the same; else replace it, since a power cut may have emptied it
    replace,
};

// Writes one or more records: as drafts in a staging directory, which are synced and then renamed to their final names, in the
// order in which they were added. With `batch` and `full` the parent directories are synced after that. Records that existed
// already are synced as well: the process that created them may have died before its fsync.
//
// A name may have one directory in front, as in `sha256/<hex>`, which is created if it is missing.
class record_batch
{
public:
    // \param staging a directory on the repository's file system; the destructor removes unpublished drafts from it
    record_batch(int staging, durability sync);
    record_batch(const record_batch&) = delete;
    record_batch& operator=(const record_batch&) = delete;
    ~record_batch();

    // Writes the draft of a record. False if the record exists and is kept.
    bool add(int directory, const std::string& name, std::string_view content, existing what);

    struct file
    {
        std::string name, content;
    };
    // Writes the draft of a directory with these files, to be published by one rename. If the directory exists, it is kept, and
    // files in it with other content are replaced. True if a draft of the directory was written.
    bool add_directory(int directory, const std::string& name, const std::vector<file>& files);

    // Syncs each draft. The caller may call syncfs instead, on a descriptor that was opened before the drafts were written.
    void sync_drafts() const;
    void publish();

private:
    struct draft
    {
        int directory;
        std::string name, draft_name; // final name in `directory`, name of the draft in the staging directory
        existing what;
        bool is_directory; // the draft is a directory
    };
    draft& begin(int directory, const std::string& name, existing what, bool is_directory);
    void make_parent(int directory, const std::string& name);
    void publish(draft& one);

    int staging_;
    durability sync_;
    // A record that existed already, with its content.
    struct existing_record
    {
        int directory;
        std::string name, content;
    };
    void make_durable(const existing_record& one) const;
    std::vector<draft> drafts_;
    std::vector<existing_record> existing_;
    std::size_t published_ = 0;
    std::set<std::pair<int, std::string>> parents_; // directories in which records are published
};

// Writes, syncs and publishes one record.
void put_record(int staging, int directory, const std::string& name, std::string_view content, durability sync,
                               existing what);

// Moves a record, or a directory with all its files, into `staging`, where the next cleaning removes it. False if there is no such
// record. Unless `sync` is `none`, the removal is durable.
bool remove_record(int staging, int directory, const std::string& name, durability sync);

// Makes a record durable, even one that another process published: a file, or a directory that holds files.
void make_record_last(int directory, const std::string& name);

// Makes renames into `<directory>/<parent>` durable; `.` stands for the directory itself.
void sync_parents(int directory, const std::string& parent);

// The names in `<directory>/<algorithm>/` that are digests, sorted; empty if there is no such directory.
[[nodiscard]] std::vector<digest> listed_digests(int directory);
// The digests of the names `<algorithm>-<hex><ending>` in `directory`, sorted.
[[nodiscard]] std::vector<digest> listed_digest_names(int directory, std::string_view ending);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/record_file.ipp>
#endif

#endif
