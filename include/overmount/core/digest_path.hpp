#ifndef OVERMOUNT_CORE_DIGEST_PATH_HPP
#define OVERMOUNT_CORE_DIGEST_PATH_HPP

#include <overmount/core/digest.hpp>

#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// The relative path under which repositories and OCI layouts store an object by its digest: `sha256/<hex>`.
[[nodiscard]] inline std::string digest_path(const digest& id)
{
    return std::string(to_string(id.algorithm())) + "/" + id.hex();
}

// The digest as a single file name: `sha256-<hex>`.
[[nodiscard]] inline std::string digest_name(const digest& id)
{
    return std::string(to_string(id.algorithm())) + "-" + id.hex();
}

// The path of a blob in an OCI layout. See OCI image spec, image-layout.md, "Blobs".
[[nodiscard]] inline std::string layout_blob_path(const digest& id) { return "blobs/" + digest_path(id); }

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
