#ifndef OVERMOUNT_REPOSITORY_RECORDS_LAYER_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_LAYER_RECORDS_HPP

#include <overmount/storage/record_file.hpp>
#include <overmount/repository/records/records.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The layers of a repository: `layers/<algorithm>/<hex>/layer.json`, named by the chain ID.
class layer_records
{
public:
    explicit layer_records(int directory) noexcept : directory_(directory) {}

    void add(record_batch& into, const chain_id& chain, const layer_record& record) const;
    // Writes the record again where it is damaged or missing.
    void put_again(int staging, const chain_id& chain, const layer_record& record, durability sync) const;
    [[nodiscard]] std::optional<layer_record> find(const chain_id& chain) const;
    // The same, verified: throws `corrupt_repository` if the record has another chain ID.
    [[nodiscard]] std::optional<layer_record> find_own(const chain_id& chain) const;
    // The layers from the top of a chain to its base, each verified. Throws `layer_not_found` if the top is missing,
    // `parent_not_mounted` if a layer below it is, `corrupt_repository` if a record has another chain ID.
    [[nodiscard]] std::vector<layer_record> chain(const chain_id& top) const;
    [[nodiscard]] std::vector<chain_id> list() const;
    bool remove(int staging, const chain_id& chain, durability sync) const;

private:
    int directory_;
};

// The layers that a list of diffs makes, lowest first.
[[nodiscard]] inline std::vector<std::pair<chain_id, layer_record>> chain_of(const std::vector<diff_id>& diffs)
{
    std::vector<std::pair<chain_id, layer_record>> layers;
    std::optional<chain_id> parent;
    for (const diff_id& diff : diffs) {
        const chain_id chain = chain_id::of(parent, diff);
        layers.emplace_back(chain, layer_record{diff, parent});
        parent = chain;
    }
    return layers;
}

// The layer's directory, as a path below the repository's base directory.
[[nodiscard]] inline std::string layer_path(const chain_id& chain) { return "layers/" + digest_path(chain.value()); }

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/layer_records.ipp>
#endif

#endif
