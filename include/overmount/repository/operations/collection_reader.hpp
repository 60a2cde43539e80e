#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COLLECTION_READER_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COLLECTION_READER_HPP

#include <overmount/core/limits.hpp>
#include <overmount/repository/operations/collect.hpp>
#include <overmount/repository/records/store.hpp>
#include <overmount/runtime/run_on.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Reads all objects of a repository, and all references to them, into marks. The records of images, tags, imports, mounts and leases
// must be readable: for a damaged one, reading fails with `corrupt_repository`, whose subject is the record. Used by one thread at a
// time.
class collection_reader
{
public:
    OVERMOUNT_LAZY collection_reader(std::shared_ptr<store> records, const limits& bounds);

    // Reads everything, without a lock. Lists the objects before it reads references, so that an object that is added meanwhile is
    // not taken for unneeded.
    OVERMOUNT_LAZY void read(const stop_flag& stop);
    // Reads what was added since. Under the exclusive lock, the marks are then accurate while the lock is held. Counts all new layers
    // and manifests as needed.
    OVERMOUNT_LAZY void read_again(const stop_flag& stop);

    [[nodiscard]] collection_marks& marks() noexcept { return marks_; }
    [[nodiscard]] const collection_marks& marks() const noexcept { return marks_; }
    // The images by ID, with their diffs.
    [[nodiscard]] const std::map<digest, std::vector<diff_id>>& images() const noexcept { return images_; }
    // The objects that leases keep, each once.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_thing> leased_things() const;
    // The layers whose records were read.
    [[nodiscard]] const std::map<chain_id, layer_record>& layers() const noexcept { return layers_; }

private:
    using version = std::tuple<std::uint64_t, std::int64_t, std::int64_t>; // inode and change time

    OVERMOUNT_LAZY void list_things();
    OVERMOUNT_LAZY void read_images(const stop_flag& stop);
    OVERMOUNT_LAZY bool read_image(const digest& id);
    OVERMOUNT_LAZY void need_image(const digest& id, std::string config);
    OVERMOUNT_LAZY void read_tags();
    OVERMOUNT_LAZY void read_mounts();
    OVERMOUNT_LAZY void read_leases();
    OVERMOUNT_LAZY void read_layer(const chain_id& chain);
    OVERMOUNT_LAZY void read_document(const digest& id);

    std::shared_ptr<store> records_;
    const limits* bounds_;
    collection_marks marks_;
    std::unordered_set<chain_id> known_layers_;
    std::unordered_set<digest> known_documents_;
    std::map<chain_id, layer_record> layers_;
    std::map<digest, std::vector<diff_id>> images_;
    std::map<std::string, version> tags_;            // by file name
    std::map<std::string, std::uint64_t> leases_;    // by file name
    std::set<std::string> mounts_;
    std::vector<lease_line> leased_;
};

// The images that tags, mounts or leases refer to. The caller holds the lock of the roots.
OVERMOUNT_LAZY [[nodiscard]] std::set<digest> used_images(std::shared_ptr<store> records);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/operations/impl/collection_reader.ipp>
#endif

#endif
