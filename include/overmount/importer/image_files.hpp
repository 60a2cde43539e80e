#ifndef OVERMOUNT_IMPORTER_IMAGE_FILES_HPP
#define OVERMOUNT_IMPORTER_IMAGE_FILES_HPP

#include <overmount/core/limits.hpp>
#include <overmount/importer/layer_source.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/tar/entry.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::detail {

// The files of an archive or of a layout's directory, by name; read in place.
class image_files
{
public:
    // A directory, or an uncompressed tar, of which it is noted where the members lie, links to members
    // included. Errors of the tar have stage source and name the archive.
    OVERMOUNT_LAZY image_files(const std::string& path, const limits& bounds);
    // Nothing yet: an archive that comes as a stream.
    explicit image_files(const limits& bounds) : bounds_(bounds), bytes_left_(bounds.all_json_bytes) {}
    // Notes a member of an archive. `bytes` is where its data is. All together are bounded: `too_many_members`.
    OVERMOUNT_LAZY void note(const tar::entry& entry, layer_source bytes);

    OVERMOUNT_LAZY [[nodiscard]] std::optional<layer_source> find(std::string_view name) const;
    // The bytes of a layer; throws `missing_blob`, which names layer and file.
    OVERMOUNT_LAZY [[nodiscard]] layer_source layer(std::string_view name, const diff_id& id) const;
    // A JSON document. All documents together are bounded. Throws `missing_blob`, `json_limit_exceeded`.
    OVERMOUNT_LAZY [[nodiscard]] std::string document(std::string_view name);
    // The one that `what` points to; throws `size_mismatch` and `digest_mismatch` as well.
    OVERMOUNT_LAZY [[nodiscard]] std::string document(const descriptor& what);

private:
    OVERMOUNT_LAZY void note_members(const std::string& path);
    OVERMOUNT_LAZY void take_memory(std::size_t names);

    std::shared_ptr<const unique_fd> root_; // the directory, or the archive
    bool directory_ = false;
    limits bounds_;
    std::uint64_t bytes_left_; // for documents
    std::uint64_t memory_left_ = bounds_.member_bytes;
    std::map<std::string, layer_source, std::less<>> members_;
    std::map<std::string, std::string, std::less<>> links_;
};

// All of a regular file.
OVERMOUNT_LAZY [[nodiscard]] file_range whole_file(const std::string& path);

// The digest that names a file: `blobs/sha256/<hex>`, or `<hex>.json` of a config.
OVERMOUNT_LAZY [[nodiscard]] std::optional<digest> digest_of_name(std::string_view path);

// Where a layout keeps a blob.
OVERMOUNT_LAZY [[nodiscard]] std::string blob_path(const digest& id);

// The path that `target` leads to from `directory`, inside the archive: above its root is its root.
OVERMOUNT_LAZY [[nodiscard]] std::string resolve_link(std::string_view directory, std::string_view target);

// Reads something of a document; errors name it.
template <class Read>
decltype(auto) in_document(std::string_view name, Read read)
{
    try {
        return read();
    } catch (error& failure) {
        if (failure.entry().empty())
            failure.entry(name);
        throw;
    }
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/image_files.ipp>
#endif

#endif
