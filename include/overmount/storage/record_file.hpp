// How every small file of a repository is written, shown, and made to last.
#ifndef OVERMOUNT_STORAGE_RECORD_FILE_HPP
#define OVERMOUNT_STORAGE_RECORD_FILE_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/durability.hpp>
#include <overmount/posix/fs.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

inline constexpr std::uint64_t record_limit = 64ull << 20; // bytes

OVERMOUNT_LAZY [[nodiscard]] inline std::string digest_path(const digest& id)
{
    return std::string(to_string(id.algorithm())) + "/" + id.hex();
}
OVERMOUNT_LAZY [[nodiscard]] inline std::string digest_name(const digest& id)
{
    return std::string(to_string(id.algorithm())) + "-" + id.hex();
}

// What `read` gives; a damage that it finds is named by the record's path in the repository.
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

// What is done with a record that is there already.
enum class existing
{
    keep, // where it says the same; a power cut may have emptied it
    replace,
};

// The one writer of records, for one of them or for many: they are written as drafts below a staging directory, synced, and
// then renamed to their places, in the order in which they were added. With `batch` and `full` their directories are synced
// after that, and so is what was there already: who put it there may not have come to this.
//
// A name may have one directory in front, as in `sha256/<hex>`, which is made where it is missing.
class record_batch
{
public:
    // \param staging a directory of the repository's file system; drafts that are not shown are removed from it
    OVERMOUNT_LAZY record_batch(int staging, durability sync);
    record_batch(const record_batch&) = delete;
    record_batch& operator=(const record_batch&) = delete;
    ~record_batch();

    // False where it is there already, and is kept.
    OVERMOUNT_LAZY bool add(int directory, const std::string& name, std::string_view content, existing what);

    struct file
    {
        std::string name, content;
    };
    // A directory that holds these files, and is shown whole. One that is there is kept, and files of it that say something else
    // are replaced. Whether a draft was written.
    OVERMOUNT_LAZY bool add_directory(int directory, const std::string& name, const std::vector<file>& files);

    // Of the drafts, each by itself. The caller may sync the file system instead, by a descriptor that he opened before they
    // were written.
    OVERMOUNT_LAZY void sync_drafts() const;
    OVERMOUNT_LAZY void show();

private:
    struct draft
    {
        int directory;
        std::string name, here; // its place, and the draft's name
        existing what;
        bool whole; // a directory
    };
    OVERMOUNT_LAZY draft& begin(int directory, const std::string& name, existing what, bool whole);
    OVERMOUNT_LAZY void make_parent(int directory, const std::string& name);
    OVERMOUNT_LAZY void show(draft& one);

    int staging_;
    durability sync_;
    // What was there already, and what it says.
    struct kept
    {
        int directory;
        std::string name, content;
    };
    OVERMOUNT_LAZY void make_last(const kept& one) const;
    std::vector<draft> drafts_;
    std::vector<kept> there_;
    std::size_t shown_ = 0;
    std::set<std::pair<int, std::string>> parents_; // directories that something is shown in
};

// Of one record.
OVERMOUNT_LAZY void put_record(int staging, int directory, const std::string& name, std::string_view content, durability sync,
                               existing what);

// Moves a record, or a whole directory, below `staging`, as something to be removed by whoever sweeps. False where there is
// none. Unless `sync` is `none`, it does not come back after a power cut.
OVERMOUNT_LAZY bool remove_record(int staging, int directory, const std::string& name, durability sync);

// Makes a record last, whoever put it there: a file, or a directory that holds files.
OVERMOUNT_LAZY void make_record_last(int directory, const std::string& name);

// Makes what was renamed into `<directory>/<parent>` last; `.` stands for the directory itself.
OVERMOUNT_LAZY void sync_parents(int directory, const std::string& parent);

// Names in `<directory>/<algorithm>/` that are digests, sorted; none where there is no such directory.
OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> listed_digests(int directory);
// Names in `directory` that are `<algorithm>-<hex><ending>`, sorted.
OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> listed_digest_names(int directory, std::string_view ending);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/record_file.ipp>
#endif

#endif
