#ifndef OVERMOUNT_EXPORTER_DOCUMENTS_HPP
#define OVERMOUNT_EXPORTER_DOCUMENTS_HPP

#include <overmount/core/digest_path.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/exporter/exporter.hpp>

#include <map>
#include <string>
#include <vector>

// The documents of archives and layouts, as text. Performs no I/O; the same images give the same text.
namespace overmount::OVERMOUNT_ABI::detail {

// The blob that a diff was written as.
struct written_blob
{
    digest id;
    std::uint64_t size;
    compression kind;
};
using blob_table = std::map<diff_id, written_blob>;

inline constexpr const char* layout_version = R"({"imageLayoutVersion":"1.0.0"})";

// `distinct_layers`: the layers of images without kept blobs, each diff once, in the order of first use. `distinct_blobs`: the
// kept blobs of the other images, each once.
OVERMOUNT_LAZY [[nodiscard]] std::vector<offered_layer> distinct_layers(const std::vector<offered_image>& images);
OVERMOUNT_LAZY [[nodiscard]] std::vector<kept_blob> distinct_blobs(const std::vector<offered_image>& images);

// The OCI manifest of an image. An image with kept blobs has its original manifest, for which `blobs` is not used.
OVERMOUNT_LAZY [[nodiscard]] std::string make_manifest(const offered_image& image, const blob_table& blobs);

// `index.json`, with one entry for each name of each image, and one for an image without names. Entries of the existing index
// `old` are kept unless a new entry replaces them. Throws what `index::parse` throws if `old` is not a valid index.
OVERMOUNT_LAZY [[nodiscard]] std::string make_index(const std::vector<offered_image>& images,
                                                    const std::vector<std::string>& manifests, const std::string& old = {});

// Docker's `manifest.json`, and `repositories`, its predecessor before docker 1.10. Throw `invalid_reference` for an image name
// that docker does not allow.
OVERMOUNT_LAZY
[[nodiscard]] std::string make_docker_manifest(const std::vector<offered_image>& images, const blob_table& blobs);
OVERMOUNT_LAZY
[[nodiscard]] std::string make_repositories(const std::vector<offered_image>& images, const blob_table& blobs);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/exporter/impl/documents.ipp>
#endif

#endif
