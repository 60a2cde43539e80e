#ifndef OVERMOUNT_REPOSITORY_RECORDS_TAG_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_TAG_RECORDS_HPP

#include <overmount/storage/record_file.hpp>
#include <overmount/repository/records/records.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// `tags/<sha256 of the name>.json`.
class tag_records
{
public:
    explicit tag_records(int directory) noexcept : directory_(directory) {}

    OVERMOUNT_LAZY void add(record_batch& into, const tag_record& record) const;
    OVERMOUNT_LAZY [[nodiscard]] std::optional<tag_record> find(std::string_view name) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> files() const;
    // The tag that a file has; `corrupt_repository` where it has none, or another one's.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<tag_record> read(const std::string& file) const;
    OVERMOUNT_LAZY void make_last(std::string_view name) const;
    OVERMOUNT_LAZY bool remove(int staging, std::string_view name, durability sync) const;

private:
    int directory_;
};

// As text, and back; throws corrupt_repository.
OVERMOUNT_LAZY [[nodiscard]] std::string tag_text(const tag_record& record);
OVERMOUNT_LAZY [[nodiscard]] tag_record parse_tag(std::string_view text);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/tag_records.ipp>
#endif

#endif
