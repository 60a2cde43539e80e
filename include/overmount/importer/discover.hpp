#ifndef OVERMOUNT_IMPORTER_DISCOVER_HPP
#define OVERMOUNT_IMPORTER_DISCOVER_HPP

#include <overmount/importer/image_files.hpp>
#include <overmount/importer/importer.hpp>
#include <overmount/runtime/run_on.hpp>

#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The images that the documents of an archive or layout describe. `source` is the name of the archive for messages; `wanted` is the
// name of the image, empty for all.
OVERMOUNT_LAZY [[nodiscard]] std::vector<found_image> discover_docker_archive(image_files& files, const std::string& source,
                                                                              const std::string& wanted,
                                                                              const import_context& context,
                                                                              const stop_flag& stop);
OVERMOUNT_LAZY [[nodiscard]] std::vector<found_image> discover_layout(image_files& files, const std::string& source,
                                                                      const std::string& wanted,
                                                                      const import_context& context, const stop_flag& stop);

// The same for either format. Archives of current docker have both; `manifest.json` takes precedence, since it has the tags.
OVERMOUNT_LAZY [[nodiscard]] inline std::vector<found_image> discover_images(image_files& files, const std::string& source,
                                                                             const std::string& wanted,
                                                                             const import_context& context,
                                                                             const stop_flag& stop)
{
    if (files.find("manifest.json"))
        return discover_docker_archive(files, source, wanted, context, stop);
    if (files.find("index.json"))
        return discover_layout(files, source, wanted, context, stop);
    throw error(errc::unknown_archive_format)
        .at(stage::source)
        .subject(source)
        .detail("it has neither manifest.json nor index.json");
}

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/docker_archive.ipp>
#include <overmount/importer/impl/oci_layout.ipp>
#endif

#endif
