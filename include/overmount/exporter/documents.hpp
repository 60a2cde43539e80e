#ifndef OVERMOUNT_EXPORTER_DOCUMENTS_HPP
#define OVERMOUNT_EXPORTER_DOCUMENTS_HPP

#include <overmount/core/limits.hpp>
#include <overmount/exporter/exporter.hpp>

#include <map>
#include <string>
#include <vector>

// The documents of archives and layouts, as text. Pure: the same images give the same text.
namespace overmount::inline OVERMOUNT_ABI::detail {

// The blob that a diff became.
struct written_blob
{
    digest id;
    std::uint64_t size;
    compression kind;
};
using blob_table = std::map<diff_id, written_blob>;

inline constexpr const char* layout_version = R"({"imageLayoutVersion":"1.0.0"})";

// Where a layout keeps a blob.
OVERMOUNT_LAZY [[nodiscard]] inline std::string path_of_blob(const digest& id)
{
    return "blobs/" + std::string(to_string(id.algorithm())) + "/" + id.hex();
}

// The layers of the images that do not go as they came, each diff once, in the order of their first use; and the blobs
// of those that do.
OVERMOUNT_LAZY [[nodiscard]] std::vector<offered_layer> distinct_layers(const std::vector<offered_image>& images);
OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_blob> distinct_blobs(const std::vector<offered_image>& images);

// An OCI image manifest; of an image whose blobs were kept, its own, for which `blobs` need not have anything.
OVERMOUNT_LAZY [[nodiscard]] std::string make_manifest(const offered_image& image, const blob_table& blobs);

// `index.json`, with an entry for each name of each image, and one for an image without. `old`, an index that is there
// already, keeps the entries whose names are not taken; throws what `index::parse` does for one that is none.
OVERMOUNT_LAZY [[nodiscard]] std::string make_index(const std::vector<offered_image>& images,
                                                    const std::vector<std::string>& manifests, const std::string& old = {});

// Docker's `manifest.json`, and what it was before docker 1.10. Throws `invalid_reference` for an image's name that is
// none for docker.
OVERMOUNT_LAZY
[[nodiscard]] std::string make_docker_manifest(const std::vector<offered_image>& images, const blob_table& blobs);
OVERMOUNT_LAZY
[[nodiscard]] std::string make_repositories(const std::vector<offered_image>& images, const blob_table& blobs);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/exporter/impl/documents.ipp>
#endif

#endif
