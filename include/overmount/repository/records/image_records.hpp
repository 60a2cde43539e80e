#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMAGE_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMAGE_RECORDS_HPP

#include <overmount/storage/record_file.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// `images/<algorithm>/<hex>/config.json`, byte for byte as it came, and a mark `durable` beside it: all that the image leads
// to survives a power cut.
class image_records
{
public:
    explicit image_records(int directory) noexcept : directory_(directory) {}

    // \param durable all that it leads to will last before the batch is shown
    // Whether a draft was written: none is where the image is there.
    OVERMOUNT_LAZY bool add(record_batch& into, const digest& id, std::string_view config, bool durable) const;
    // Where it is damaged or missing.
    OVERMOUNT_LAZY void put_again(int staging, const digest& id, std::string_view config, durability sync) const;
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> find(const digest& id) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<digest> list() const;
    OVERMOUNT_LAZY bool remove(int staging, const digest& id, durability sync) const;

    OVERMOUNT_LAZY [[nodiscard]] bool is_durable(const digest& id) const;

private:
    int directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/image_records.ipp>
#endif

#endif
