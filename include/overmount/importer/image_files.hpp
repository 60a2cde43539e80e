#ifndef OVERMOUNT_IMPORTER_IMAGE_FILES_HPP
#define OVERMOUNT_IMPORTER_IMAGE_FILES_HPP

#include <overmount/detail/file_range.hpp>
#include <overmount/limits.hpp>

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::detail {

// The files of an archive or of a layout's directory, by name; read in place.
class image_files
{
public:
    // Notes where the members of an uncompressed tar lie, links to members included. Nothing of them is read.
    [[nodiscard]] static image_files of_archive(const std::string& path, const limits& bounds);
    [[nodiscard]] static image_files of_directory(const std::string& path);

    [[nodiscard]] std::optional<file_range> find(std::string_view name) const;
    // The same, but throws `missing_blob`.
    [[nodiscard]] file_range get(std::string_view name) const;
    // A JSON document, not larger than the limits allow.
    [[nodiscard]] std::string document(std::string_view name, const limits& bounds) const;

private:
    std::shared_ptr<const unique_fd> root_; // the directory, or the archive
    bool directory_ = false;
    std::map<std::string, file_range, std::less<>> members_;
    std::map<std::string, std::string, std::less<>> links_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/impl/image_files.ipp>
#endif

#endif
