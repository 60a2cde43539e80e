#ifndef OVERMOUNT_CORE_ERROR_HPP
#define OVERMOUNT_CORE_ERROR_HPP

#include <overmount/core/config.hpp>

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// What can go wrong by the rules of the library. The kernel's errors stay in `system_category`, libarchive's
/// in `archive_category()`. Branch on `condition`, which groups all three.
enum class errc
{
    /// The text is not a digest: write `sha256:` and 64, or `sha512:` and 128, lower-case hex digits.
    invalid_digest = 1,
    /// The bytes do not have the digest they were announced with: fetch or export them again.
    digest_mismatch,
    /// There are more or fewer bytes than announced: the file was cut, or the manifest is wrong.
    size_mismatch,
    /// The unpacked layer is not the one that the image's config names.
    diff_id_mismatch,
    /// The text is not an image reference such as `docker.io/library/busybox:1.36`.
    invalid_reference,

    /// A JSON document of the image is not well-formed.
    malformed_json,
    /// A JSON document of the image is deeper, longer or larger than the limits allow.
    json_limit_exceeded,
    /// The manifest lacks a field that it must have, or has one that cannot be.
    invalid_manifest,
    /// The index lacks a field that it must have, or nests deeper than the limits allow.
    invalid_index,
    /// The image config lacks a field that it must have, or does not fit the manifest.
    invalid_config,
    /// The media type is not one of an OCI or docker schema 2 image, or contradicts the bytes.
    unsupported_media_type,
    /// The index holds no image for the wanted platform; the error lists what there is.
    no_matching_platform,

    /// The file is neither a docker archive nor an OCI layout.
    unknown_archive_format,
    /// The archive names a file or blob that it does not hold.
    missing_blob,
    /// The archive holds no image of that name; the error lists what there is.
    missing_image,
    /// The archive holds several images: say which one.
    ambiguous_image,

    /// The compressed or archived stream ends too early.
    truncated_stream,
    /// The compressed stream is damaged.
    corrupt_stream,
    /// The compression is not gzip, zstd or none.
    unsupported_compression,

    /// A tar header or extension header is not valid.
    malformed_tar,
    /// libarchive reads the entry otherwise than the library does: it may be made to deceive.
    tar_disagreement,
    /// The entry's type cannot be stored.
    unsupported_entry_type,
    /// The entry's path or link leaves the root of the layer, or names what it must not.
    entry_escapes_layer,
    /// The entry's name starts with `.wh.` and is not a whiteout.
    invalid_whiteout,
    /// A hard link names a file that its layer does not hold.
    missing_hard_link_target,

    /// The layer has more entries than the limits allow.
    too_many_entries,
    /// The layer unpacks to more bytes than the limits allow.
    layer_too_large,
    /// The layer's bytes shrink more than the limits allow: it looks like a bomb.
    compression_ratio_exceeded,
    /// A path or link target is longer than the limits allow.
    path_too_long,
    /// A path has more components than the limits allow.
    path_too_deep,
    /// An extended attribute is larger than the limits, or the file system, allow.
    xattr_too_large,
    /// An extension header is larger, or more of them follow each other, than the limits allow.
    extension_too_large,
    /// A sparse file has more segments than the limits allow.
    too_many_segments,
    /// The names of an archive's members take more memory than the limits allow.
    too_many_members,
    /// The stream has more members that may be layers, or they unpack to more, than the limits allow: import it from a
    /// file that is not compressed as a whole.
    too_many_candidates,

    /// The directory is not a repository of overmount.
    not_a_repository,
    /// The repository was made by a newer version, with features that this one does not know.
    unsupported_repository,
    /// Others than the owner may enter the repository's directory.
    repository_open_to_others,
    /// The repository belongs to another user: work as that user, or name the owner in the options.
    repository_of_another_user,
    /// A record of the repository cannot be read: its name is in the error.
    corrupt_repository,
    /// Others hold the repository's lock for longer than the options allow: wait for them, or see who they are.
    repository_busy,
    /// The repository holds no such image.
    image_not_found,
    /// The repository holds no such layer.
    layer_not_found,
    /// The name fits more than one image: give more digits.
    ambiguous_image_id,
    /// The repository has no such tag.
    tag_does_not_exist,
    /// The layer is there already.
    layer_exists,
    /// The layer's record or content is not valid.
    invalid_layer,
    /// The stored content of a layer is not valid: import the layer again.
    invalid_asset,
    /// The chain ID fits more than one layer: give more digits.
    ambiguous_layer_id,
    /// The layer has no entry of that path.
    entry_not_found,
    /// The entry is no file with content: a directory, a link, a device.
    not_a_regular_file,
    /// A file of an unpacked layer is not as it was unpacked: check the repository, and import the image again.
    diff_changed,
    /// A check found the layer damaged: repair the repository, or import the image again.
    diff_damaged,
    /// The layer was unpacked without a recipe for its tar, by an older version: import it again.
    missing_recipe,
    /// The config and the chain of layers do not fit each other.
    image_cannot_be_composed,
    /// The image is mounted: unmount it first.
    image_in_use,
    /// An image, another layer or a lease needs the layer: the error says what.
    layer_in_use,
    /// There is no lease of that name.
    lease_not_found,

    /// The layer's parent is not there to mount upon.
    parent_not_mounted,
    /// The kernel refused to mount.
    mount_failed,
    /// The kernel refused to unmount.
    unmount_failed,
    /// The mount cannot be made as asked for.
    mount_cannot_proceed,
    /// There is a mount of a repository at that place already, or the mount is mounted already.
    mount_exists,
    /// There is no such mount.
    mount_not_found,
    /// Something else is mounted on top of the mount, or above it: unmount that first.
    mount_covered,
    /// The machine went down while the mount was volatile, so that files in it may be incomplete: say that they are
    /// accepted as they are, or remove it.
    mount_not_durable,
    /// The mount is read-only: mount the image writable to commit.
    mount_read_only,
    /// A file or directory of a writable mount changed while it was read: commit when nothing writes to it.
    upper_changed,
    /// The image has more layers than overlayfs can stack (500).
    too_many_layers,
};

/// What a caller can do about an error, whoever raised it.
enum class condition
{
    /// The input breaks a rule of its format: another source may help.
    invalid_input = 1,
    /// The input does not match its digest or size: transfer it again.
    corrupt_input,
    /// A limit was reached: raise it if the input is trusted.
    limit_exceeded,
    /// What was asked for does not exist.
    not_found,
    /// Something is there already, or is in use.
    conflict,
    /// The library or the kernel cannot do this.
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
OVERMOUNT_LAZY [[nodiscard]] const boost::system::error_category& error_category() noexcept;
/// The category of `condition`.
OVERMOUNT_LAZY [[nodiscard]] const boost::system::error_category& condition_category() noexcept;
/// The category of errors that libarchive reports; values are errno values or ARCHIVE_* codes.
OVERMOUNT_LAZY [[nodiscard]] const boost::system::error_category& archive_category() noexcept;

OVERMOUNT_LAZY [[nodiscard]] boost::system::error_code make_error_code(errc value) noexcept;
OVERMOUNT_LAZY [[nodiscard]] boost::system::error_condition make_error_condition(condition value) noexcept;

/// The part of the work in which an error arose.
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
    target, ///< where an export goes
};

OVERMOUNT_LAZY [[nodiscard]] std::string_view to_string(stage value) noexcept;

/// The exception of all operations: a code, and where it happened.
///
/// `what()` is one line. Text that came from outside (paths, names) is escaped in it; the accessors give it as
/// it was. The setters return `*this`, so that a place is built up in one expression:
/// `throw error(errc::invalid_whiteout).at(stage::extract).entry(path);`
class error : public boost::system::system_error
{
public:
    OVERMOUNT_LAZY explicit error(boost::system::error_code code);
    OVERMOUNT_LAZY explicit error(errc code);

    /// An error of the kernel; `number` is an errno value.
    OVERMOUNT_LAZY [[nodiscard]] static error from_errno(int number);

    OVERMOUNT_LAZY error& at(overmount::stage value);
    OVERMOUNT_LAZY error& layer(std::string_view name);
    OVERMOUNT_LAZY error& entry(std::string_view path);
    OVERMOUNT_LAZY error& operation(std::string_view name);
    /// Words of our own that explain; not escaped.
    OVERMOUNT_LAZY error& detail(std::string_view words);
    /// Foreign text that belongs to the explanation; printed escaped.
    OVERMOUNT_LAZY error& subject(std::string_view text);

    [[nodiscard]] overmount::stage at() const noexcept { return stage_; }
    [[nodiscard]] const std::string& layer() const noexcept { return layer_; }
    [[nodiscard]] const std::string& entry() const noexcept { return entry_; }
    [[nodiscard]] const std::string& operation() const noexcept { return operation_; }
    [[nodiscard]] const std::string& detail() const noexcept { return detail_; }
    [[nodiscard]] const std::string& subject() const noexcept { return subject_; }

    [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

private:
    OVERMOUNT_LAZY void compose();

    overmount::stage stage_ = overmount::stage::none;
    std::string layer_, entry_, operation_, detail_, subject_;
    std::string what_;
};

/// Bytes as printable ASCII: `\n`, `\xff` and the like for the rest. Cut with `...` after `limit` bytes.
OVERMOUNT_LAZY [[nodiscard]] std::string escape(std::string_view bytes, std::size_t limit = 400);

} // namespace overmount::inline OVERMOUNT_ABI

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
