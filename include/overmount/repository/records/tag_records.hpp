#ifndef OVERMOUNT_REPOSITORY_RECORDS_TAG_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_TAG_RECORDS_HPP

#include <overmount/storage/record_file.hpp>
#include <overmount/repository/records/records.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The tags of a repository: `tags/<sha256 of the name>.json`.
class tag_records
{
public:
    explicit tag_records(int directory) noexcept : directory_(directory) {}

    void add(record_batch& into, const tag_record& record) const;
    // Adds the tag unless there is one of that name, which then becomes durable with the batch.
    void keep(record_batch& into, const tag_record& record) const;
    [[nodiscard]] std::optional<tag_record> find(std::string_view name) const;
    [[nodiscard]] std::vector<std::string> files() const;
    // Reads a tag from its file. Throws `corrupt_repository` if the content is not a tag, or is one whose name belongs to another file.
    [[nodiscard]] std::optional<tag_record> read(const std::string& file) const;
    bool remove(int staging, std::string_view name, durability sync) const;

private:
    int directory_;
};

// Converts a tag to text and back. `parse_tag` throws `corrupt_repository`.
[[nodiscard]] std::string tag_text(const tag_record& record);
[[nodiscard]] tag_record parse_tag(std::string_view text);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/tag_records.ipp>
#endif

#endif
