#ifndef OVERMOUNT_IMPORTER_IMAGE_FILES_HPP
#define OVERMOUNT_IMPORTER_IMAGE_FILES_HPP

#include <overmount/core/digest_path.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/importer/layer_source.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/tar/entry.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::detail {

// The files of an archive or of the directory of a layout, by name. They are read in place.
class image_files
{
public:
    // Opens a directory or an uncompressed tar; of a tar it records the offsets of all members, and links to members. Errors of the tar
    // have stage source and name the archive.
    OVERMOUNT_LAZY image_files(const std::string& path, const limits& bounds);
    // An empty set, for an archive that arrives as a stream; see `note`.
    explicit image_files(const limits& bounds) : bounds_(bounds), bytes_left_(bounds.all_json_bytes) {}
    // Adds a member of an archive, whose data is in `bytes`. Throws `too_many_members` at the limit on the memory of all members.
    OVERMOUNT_LAZY void note(const tar::entry& entry, layer_source bytes);

    OVERMOUNT_LAZY [[nodiscard]] std::optional<layer_source> find(std::string_view name) const;
    // Where the bytes of a layer are. Throws `missing_blob`, with the layer and the file.
    OVERMOUNT_LAZY [[nodiscard]] layer_source layer(std::string_view name, const diff_id& id) const;
    // Reads a JSON document. Throws `missing_blob`, or `json_limit_exceeded` at the limit on the total size of all documents;
    // `truncated_stream` if the document was not kept while its archive was read once.
    OVERMOUNT_LAZY [[nodiscard]] std::string document(std::string_view name);
    // Reads the document that a descriptor refers to; also throws `size_mismatch` and `digest_mismatch`.
    OVERMOUNT_LAZY [[nodiscard]] std::string document(const descriptor& what);

private:
    OVERMOUNT_LAZY void index_members(const std::string& path);
    OVERMOUNT_LAZY void charge_memory(std::size_t names);

    std::shared_ptr<const unique_fd> root_; // the directory, or the archive
    bool directory_ = false;
    limits bounds_;
    std::uint64_t bytes_left_; // for further documents
    std::uint64_t memory_left_ = bounds_.member_bytes;
    std::map<std::string, layer_source, std::less<>> members_;
    std::map<std::string, std::string, std::less<>> links_;
};

// The whole of a regular file.
OVERMOUNT_LAZY [[nodiscard]] file_range whole_file(const std::string& path);

// The digest in the name of a file: `blobs/sha256/<hex>`, or `<hex>.json` for a config.
OVERMOUNT_LAZY [[nodiscard]] std::optional<digest> digest_of_name(std::string_view path);

// Resolves the link target `target` relative to `directory`, within the archive: `..` of the root is the root.
OVERMOUNT_LAZY [[nodiscard]] std::string resolve_link(std::string_view directory, std::string_view target);

// Calls `read`; sets the entry of its errors to the name of the document.
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

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/image_files.ipp>
#endif

#endif
