#ifndef OVERMOUNT_OCI_MANIFEST_HPP
#define OVERMOUNT_OCI_MANIFEST_HPP

#include <overmount/core/compression.hpp>
#include <overmount/core/digest.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/core/platform.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// Refers to a blob by its digest and size. See OCI image spec, descriptor.md.
class descriptor
{
public:
    descriptor(std::string media_type, const overmount::digest& id, std::uint64_t size)
        : media_type_(std::move(media_type)), digest_(id), size_(size)
    {
    }
    [[nodiscard]] const std::string& media_type() const noexcept { return media_type_; }
    [[nodiscard]] const overmount::digest& digest() const noexcept { return digest_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; } ///< bytes
    [[nodiscard]] const std::optional<overmount::platform>& platform() const noexcept { return platform_; }
    /// The annotation `org.opencontainers.image.ref.name`, or empty.
    [[nodiscard]] const std::string& ref_name() const noexcept { return ref_name_; }
    /// The annotation `io.containerd.image.name`, a full name, or empty.
    [[nodiscard]] const std::string& image_name() const noexcept { return image_name_; }

    void set_platform(overmount::platform value) { platform_ = std::move(value); }
    void set_names(std::string ref_name, std::string image_name)
    {
        ref_name_ = std::move(ref_name);
        image_name_ = std::move(image_name);
    }

private:
    std::string media_type_;
    overmount::digest digest_;
    std::uint64_t size_;
    std::optional<overmount::platform> platform_;
    std::string ref_name_, image_name_;
};

/// A layer of a manifest: its blob, and the compression that the media type promises (nullopt for docker's types, which
/// tools use for any compression).
struct layer_descriptor
{
    descriptor blob;
    std::optional<compression> promised;
};

/// The manifest of an image for one platform: an OCI image manifest, or docker's schema 2. See OCI image spec, manifest.md.
class manifest
{
public:
    /// Throws `invalid_manifest`, `unsupported_media_type`, `malformed_json`, `json_limit_exceeded`.
    OVERMOUNT_LAZY [[nodiscard]] static manifest parse(std::string bytes, const limits& bounds);

    /// The media type of the manifest itself. If it does not state one: docker's or OCI's, whichever its config has.
    [[nodiscard]] const std::string& media_type() const noexcept { return media_type_; }
    [[nodiscard]] const descriptor& config() const noexcept { return config_; }
    [[nodiscard]] const std::vector<layer_descriptor>& layers() const noexcept { return layers_; }
    [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; } ///< verbatim

private:
    manifest(std::string bytes, descriptor config) : bytes_(std::move(bytes)), config_(std::move(config)) {}
    std::string bytes_, media_type_;
    descriptor config_;
    std::vector<layer_descriptor> layers_;
};

/// A list of manifests or further indexes: OCI image index, or docker's manifest list.
class index
{
public:
    /// Throws `invalid_index`, `malformed_json`, `json_limit_exceeded`.
    OVERMOUNT_LAZY [[nodiscard]] static index parse(std::string bytes, const limits& bounds);

    [[nodiscard]] const std::vector<descriptor>& entries() const noexcept { return entries_; }
    [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; } ///< verbatim

    /// The entry that fits `wanted` best; an entry without a platform is chosen only if no other fits. Throws
    /// `no_matching_platform`, which lists the platforms of the entries.
    [[nodiscard]] const descriptor& select(const platform& wanted) const { return select_from(entries_, wanted); }
    OVERMOUNT_LAZY
    [[nodiscard]] static const descriptor& select_from(const std::vector<descriptor>& entries, const platform& wanted);

private:
    std::string bytes_;
    std::vector<descriptor> entries_;
};

/// Whether a blob of this media type is an index (or a manifest list).
OVERMOUNT_LAZY [[nodiscard]] bool is_index_media_type(std::string_view type) noexcept;
/// Whether a blob of this media type is the manifest of an image.
OVERMOUNT_LAZY [[nodiscard]] bool is_manifest_media_type(std::string_view type) noexcept;

/// One image in the `manifest.json` of a docker archive.
struct docker_archive_image
{
    std::string config;              ///< path of the config in the archive
    std::vector<std::string> tags;   ///< full names
    std::vector<std::string> layers; ///< paths, lowest first
};
OVERMOUNT_LAZY [[nodiscard]] std::vector<docker_archive_image> parse_docker_archive_manifest(std::string_view bytes,
                                                                                             const limits& bounds);

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/oci/impl/manifest.ipp>
#endif

#endif
