#ifndef OVERMOUNT_REPOSITORY_RECORDS_LAYER_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_LAYER_RECORDS_HPP

#include <overmount/storage/record_file.hpp>
#include <overmount/repository/records/records.hpp>

#include <optional>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// `layers/<algorithm>/<hex>/layer.json`.
class layer_records
{
public:
    explicit layer_records(int directory) noexcept : directory_(directory) {}

    OVERMOUNT_LAZY void add(record_batch& into, const chain_id& chain, const layer_record& record) const;
    // Where it is damaged or missing.
    OVERMOUNT_LAZY void put_again(int staging, const chain_id& chain, const layer_record& record, durability sync) const;
    OVERMOUNT_LAZY [[nodiscard]] std::optional<layer_record> find(const chain_id& chain) const;
    // The same, compared with the ID it has: throws corrupt_repository for a record that is another layer's.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<layer_record> find_own(const chain_id& chain) const;
    // From the chain's top to its base, each compared with the ID it has. Throws layer_not_found for the top,
    // parent_not_mounted for a gap, corrupt_repository for a record that is another layer's.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<layer_record> chain(const chain_id& top) const;
    OVERMOUNT_LAZY [[nodiscard]] std::vector<chain_id> list() const;
    OVERMOUNT_LAZY void make_last(const chain_id& chain) const;
    OVERMOUNT_LAZY bool remove(int staging, const chain_id& chain, durability sync) const;

private:
    int directory_;
};

// Of the repository's base: the layer's directory.
OVERMOUNT_LAZY [[nodiscard]] inline std::string layer_path(const chain_id& chain) { return "layers/" + digest_path(chain.value()); }

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/layer_records.ipp>
#endif

#endif
