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

namespace overmount::inline OVERMOUNT_ABI::detail {

// The base directory of a repository and its `repository.json`: what a reader must know before it believes anything else.
class header_record
{
public:
    // What this version writes and earlier ones do not know: uppers that are kept when their mount has gone, and imports that
    // appear by one record. Earlier ones may read, and neither write nor sweep.
    static constexpr const char* feature = "kept-uppers";

    // Opens the directory, or makes it with all that is above it. `owner` is whom it belongs to, where that is not the caller.
    OVERMOUNT_LAZY header_record(const std::filesystem::path& base, std::string_view form, bool allow_others,
                                 std::optional<uid_t> owner);

    [[nodiscard]] const std::filesystem::path& base() const noexcept { return base_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] bool read_only() const noexcept { return read_only_; }
    // Why, for people.
    [[nodiscard]] const std::string& why_read_only() const noexcept { return why_read_only_; }

    // Before the first write: notes the feature, for good, and leaves all else of repository.json as it is. The caller holds the
    // repository's lock, shared, so that the draft is not swept.
    OVERMOUNT_LAZY void note_feature() const;
    // Drafts of repository.json that a kill has left beside it. This version has them in `tmp/`, where they are swept as others.
    OVERMOUNT_LAZY void remove_drafts() const;

private:
    struct content
    {
        std::uint64_t version = 0;
        std::vector<std::string> compatible, read_only, incompatible, forms;
        OVERMOUNT_LAZY [[nodiscard]] std::string text() const;
    };
    OVERMOUNT_LAZY void make(std::string_view form) const;
    OVERMOUNT_LAZY [[nodiscard]] unique_fd staging() const { return open_directory(fd_.get(), "tmp"); }
    OVERMOUNT_LAZY void check_owner(bool allow_others, std::optional<uid_t> owner) const;
    OVERMOUNT_LAZY [[nodiscard]] std::string text() const; // of the file
    OVERMOUNT_LAZY [[nodiscard]] content parse(std::string_view text) const;

    std::filesystem::path base_;
    unique_fd fd_;
    bool read_only_ = false;
    std::string why_read_only_;
    mutable std::mutex mutex_; // of noting; held while one file is written
    mutable std::atomic<bool> noted_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/header_record.ipp>
#endif

#endif
