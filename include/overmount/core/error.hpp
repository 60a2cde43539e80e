#ifndef OVERMOUNT_CORE_ERROR_HPP
#define OVERMOUNT_CORE_ERROR_HPP

#include <overmount/core/config.hpp>

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI {

/// The errors that the library itself defines. Errors of the kernel stay in `system_category`. To handle errors, compare with a
/// `condition`, which groups both.
enum class errc
{
    /// The text is not a digest: write `sha256:` and 64 lower-case hex digits, or `sha512:` and 128.
    invalid_digest = 1,
    /// The content does not have the announced digest: fetch or export it again.
    digest_mismatch,
    /// The content is longer or shorter than announced: the file was truncated, or the manifest is wrong.
    size_mismatch,
    /// The unpacked layer does not have the diff ID that the image's config lists.
    diff_id_mismatch,
    /// The text is not an image reference such as `docker.io/library/busybox:1.36`.
    invalid_reference,

    /// A JSON document of the image is not well-formed.
    malformed_json,
    /// A JSON document of the image is nested deeper, has more values or is larger than the limits allow.
    json_limit_exceeded,
    /// The manifest lacks a required field, or a field has an invalid value.
    invalid_manifest,
    /// The index lacks a required field, or is nested deeper than the limits allow.
    invalid_index,
    /// The image config lacks a required field, or does not match the manifest.
    invalid_config,
    /// The media type is not that of an OCI or docker schema 2 image, or contradicts the content.
    unsupported_media_type,
    /// The index has no image for the wanted platform. The error lists the available platforms.
    no_matching_platform,

    /// The file is neither a docker archive nor an OCI layout.
    unknown_archive_format,
    /// The archive refers to a file or blob that it does not contain.
    missing_blob,
    /// The archive has no image of that name. The error lists the available images.
    missing_image,
    /// The archive contains several images: name the wanted one.
    ambiguous_image,

    /// The compressed or archived stream ends too early.
    truncated_stream,
    /// The compressed stream is damaged.
    corrupt_stream,
    /// The compression is not gzip, zstd or none.
    unsupported_compression,

    /// A tar header or extension header is not valid.
    malformed_tar,
    /// libarchive and the library interpret the entry differently: it may be crafted to deceive.
    tar_disagreement,
    /// A layer cannot store an entry of this type.
    unsupported_entry_type,
    /// The entry's path or link leaves the root of the layer, or cannot name anything inside it.
    entry_escapes_layer,
    /// The entry's name starts with `.wh.` and is not a whiteout.
    invalid_whiteout,
    /// The target of a hard link is not in the same layer.
    missing_hard_link_target,

    /// The layer has more entries than the limits allow.
    too_many_entries,
    /// The layer unpacks to more bytes than the limits allow.
    layer_too_large,
    /// The layer's compression ratio exceeds the limits: it may be a decompression bomb.
    compression_ratio_exceeded,
    /// A path or link target is longer than the limits allow.
    path_too_long,
    /// A path has more components than the limits allow.
    path_too_deep,
    /// An extended attribute is larger than the limits, or the file system, allow.
    xattr_too_large,
    /// An extension header is larger, or more of them are consecutive, than the limits allow.
    extension_too_large,
    /// A sparse file has more segments than the limits allow.
    too_many_segments,
    /// The archive's list of members needs more memory than the limits allow.
    too_many_members,
    /// The stream has more candidate layers than the limits allow, or they unpack to more bytes: import the archive from a file
    /// that is not compressed as a whole.
    too_many_candidates,

    /// The directory is not an overmount repository.
    not_a_repository,
    /// The repository uses features that this version or storage policy does not know, or another storage created it.
    unsupported_repository,
    /// Other users than the owner can enter the repository's directory.
    repository_open_to_others,
    /// The repository belongs to another user: run as that user, or name the owner in the options.
    repository_of_another_user,
    /// A record of the repository is damaged. The error names the record.
    corrupt_repository,
    /// Other operations held the repository's lock for longer than the options allow: wait for them, or find out which they are.
    repository_busy,
    /// The repository has no such image.
    image_not_found,
    /// The repository has no such layer.
    layer_not_found,
    /// The abbreviated ID matches more than one image: give more digits.
    ambiguous_image_id,
    /// The repository has no such tag.
    tag_not_found,
    /// The stored content of a layer is damaged: import the layer again.
    invalid_asset,
    /// The abbreviated chain ID matches more than one layer: give more digits.
    ambiguous_layer_id,
    /// The layer has no entry with that path.
    entry_not_found,
    /// The entry is not a regular file but, for example, a directory, a link or a device.
    not_a_regular_file,
    /// A file of an unpacked layer has changed since it was unpacked: check the repository, and import the image again.
    diff_changed,
    /// A check found the layer damaged: repair the repository, or import the image again.
    diff_damaged,
    /// An older version unpacked the layer without recording the recipe that rebuilds its tar: import it again.
    missing_recipe,
    /// The image config does not match the layers.
    image_cannot_be_composed,
    /// The image is mounted: unmount it first.
    image_in_use,
    /// An image, another layer or a lease needs the layer. The error says which.
    layer_in_use,
    /// There is no lease of that name.
    lease_not_found,

    /// The parent layer that the mount needs is missing.
    parent_not_mounted,
    /// The kernel refused to mount.
    mount_failed,
    /// The kernel refused to unmount.
    unmount_failed,
    /// The requested mount is not possible. The error says why.
    mount_not_possible,
    /// A repository's mount already exists at that target, or the recorded mount is already mounted.
    mount_exists,
    /// The repository has no such mount.
    mount_not_found,
    /// Something else is mounted over the mount, or over a directory above it: unmount that first.
    mount_covered,
    /// The machine went down while a volatile mount was in use, so files in it may be incomplete: accept them explicitly, or
    /// remove the mount.
    mount_not_durable,
    /// The mount is read-only: mount the image writable to commit.
    mount_read_only,
    /// A file or directory of a writable mount changed while it was read: commit when no process writes to the mount.
    upper_changed,
    /// The image has more layers than overlayfs can stack (500).
    too_many_layers,

    /// The handle is empty: it was default-constructed or moved from.
    invalid_handle,

    /// The registry has no such image or blob, or does not show it to this user: check the name, and log in.
    not_in_registry,
    /// The registry or its token server refused the credentials: log in again.
    login_refused,
    /// An answer of the registry violates HTTP or the distribution spec.
    malformed_answer,
    /// The registry failed or was busy for longer than the options allow: try later.
    registry_unavailable,
    /// The registry asks to wait for longer than the client is willing to. The error says for how long.
    registry_busy,
    /// The registry or its token server refers to a place to which the client does not go.
    redirect_refused,
    /// The settings forbid the registry or the image.
    registry_blocked,
    /// A settings file, such as `auth.json` or `registries.conf`, is malformed. The error names the file.
    invalid_settings,
    /// The credential helper failed, or took too long.
    credential_helper_failed,
};

/// Groups errors by what a caller can do about them, whether the library or the kernel raised them.
enum class condition
{
    /// The input violates its format: another source may help.
    invalid_input = 1,
    /// The input does not match its digest or size: transfer it again.
    corrupt_input,
    /// A limit was reached: raise it if the input is trusted.
    limit_exceeded,
    /// The requested object does not exist.
    not_found,
    /// The object already exists or is in use.
    conflict,
    /// The library or the kernel does not support this.
    unsupported,
    /// The operation was cancelled.
    cancelled,
    /// The disk or a quota is full.
    no_space,
    /// The process lacks a privilege.
    permission_denied,
    /// The kernel or the file system failed.
    system_failure,
};

/// The category of `errc`.
[[nodiscard]] const boost::system::error_category& error_category() noexcept;
/// The category of `condition`.
[[nodiscard]] const boost::system::error_category& condition_category() noexcept;

[[nodiscard]] boost::system::error_code make_error_code(errc value) noexcept;
[[nodiscard]] boost::system::error_condition make_error_condition(condition value) noexcept;

/// The part of an operation in which an error occurred.
enum class stage
{
    none,
    source,
    manifest,
    decode,
    framing,
    extract,
    storage,
    repository,
    mount,
    target, ///< the destination of an export
};

[[nodiscard]] std::string_view to_string(stage value) noexcept;

/// The exception that all operations throw: a code, and where the error occurred.
///
/// `what()` is one line. It escapes text from outside of the library (paths, names); the accessors return that text unchanged.
/// The setters return `*this`, so that one expression can describe the error:
/// `throw error(errc::invalid_whiteout).at(stage::extract).entry(path);`
class error : public boost::system::system_error
{
public:
    explicit error(boost::system::error_code code);
    explicit error(errc code);

    /// An error of the kernel. `number` is an errno value.
    [[nodiscard]] static error from_errno(int number);

    error& at(overmount::stage value);
    error& layer(std::string_view name);
    error& entry(std::string_view path);
    error& operation(std::string_view name);
    /// An explanation by the library itself. It is not escaped.
    error& detail(std::string_view words);
    /// The object that the error is about, such as a path or a name from outside. `what()` escapes it.
    error& subject(std::string_view text);

    [[nodiscard]] overmount::stage at() const noexcept { return stage_; }
    [[nodiscard]] const std::string& layer() const noexcept { return layer_; }
    [[nodiscard]] const std::string& entry() const noexcept { return entry_; }
    [[nodiscard]] const std::string& operation() const noexcept { return operation_; }
    [[nodiscard]] const std::string& detail() const noexcept { return detail_; }
    [[nodiscard]] const std::string& subject() const noexcept { return subject_; }

    [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

private:
    void compose();

    overmount::stage stage_ = overmount::stage::none;
    std::string layer_, entry_, operation_, detail_, subject_;
    std::string what_;
};

/// Converts bytes to printable ASCII; other bytes become `\n`, `\xff` and the like. After `limit` bytes it ends with `...`.
[[nodiscard]] std::string escape(std::string_view bytes, std::size_t limit = 400);

} // namespace overmount::OVERMOUNT_ABI

template <>
struct boost::system::is_error_code_enum<overmount::errc> : std::true_type
{
};
template <>
struct boost::system::is_error_condition_enum<overmount::condition> : std::true_type
{
};

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/core/impl/error.ipp>
#endif

#endif
