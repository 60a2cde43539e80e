#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMAGE_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMAGE_RECORDS_HPP

#include <overmount/storage/record_file.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Image configs, byte for byte as they were imported: `images/<algorithm>/<hex>/config.json`. The empty file `durable` in the same
// directory means that all layers and documents of the image survive a power cut.
class image_records
{
public:
    explicit image_records(int directory) noexcept : directory_(directory) {}

    // Adds the image to a batch, or the missing files of an existing one. Returns whether the image is new.
    // \param durable all that the image refers to is durable before the batch is published
    bool add(record_batch& into, const digest& id, std::string_view config, bool durable) const;
    // Writes the record again where it is damaged or missing.
    void put_again(int staging, const digest& id, std::string_view config, durability sync) const;
    [[nodiscard]] std::optional<std::string> find(const digest& id) const;
    [[nodiscard]] std::vector<digest> list() const;
    bool remove(int staging, const digest& id, durability sync) const;

    [[nodiscard]] bool is_durable(const digest& id) const;

private:
    int directory_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/image_records.ipp>
#endif

#endif
