#ifndef OVERMOUNT_REPOSITORY_RECORDS_HEADER_RECORD_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_HEADER_RECORD_HPP

#include <overmount/posix/fs.hpp>

#include <sys/types.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <cstdint>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The base directory of a repository and its `repository.json`, which says what a program must know to read or write the rest.
class header_record
{
public:
    // The feature that this version writes and earlier versions do not know: upper directories that outlive their mounts, and imports
    // that are committed by one record. Earlier versions may read such a repository, but neither write nor sweep it.
    static constexpr const char* feature = "kept-uppers";

    // Opens the directory, or creates it with its missing parents. `owner` is the user it belongs to if that is not the caller.
    header_record(const std::filesystem::path& base, std::string_view form, bool allow_others,
                                 std::optional<uid_t> owner);

    [[nodiscard]] const std::filesystem::path& base() const noexcept { return base_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] bool read_only() const noexcept { return read_only_; }
    // Why it is read-only, as text for people.
    [[nodiscard]] const std::string& why_read_only() const noexcept { return why_read_only_; }

    // Called before the first write: adds the feature to repository.json, durably, and leaves the rest of the file unchanged. The
    // caller holds the repository's lock, shared, so that the draft is not swept.
    void note_feature() const;
    // Removes drafts of repository.json that a killed process of an earlier version has left in the base directory. This version
    // writes its drafts in `tmp/`, where they are swept with all others.
    void remove_drafts() const;

private:
    struct content
    {
        std::uint64_t version = 0;
        std::vector<std::string> compatible, read_only, incompatible, forms;
        [[nodiscard]] std::string text() const;
    };
    void make(std::string_view form) const;
    [[nodiscard]] unique_fd staging() const { return open_directory(fd_.get(), "tmp"); }
    void check_owner(bool allow_others, std::optional<uid_t> owner) const;
    [[nodiscard]] std::string text() const; // the text of repository.json
    // Throws `corrupt_repository`, or `unsupported_repository` if this version cannot even read the repository.
    [[nodiscard]] content parse(std::string_view text) const;

    std::filesystem::path base_;
    unique_fd fd_;
    bool read_only_ = false;
    std::string why_read_only_;
    mutable std::mutex mutex_; // serialises note_feature; held while one file is written
    mutable std::atomic<bool> noted_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/header_record.ipp>
#endif

#endif
