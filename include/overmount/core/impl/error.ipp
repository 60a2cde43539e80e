#ifndef OVERMOUNT_CORE_IMPL_ERROR_IPP
#define OVERMOUNT_CORE_IMPL_ERROR_IPP

#include <overmount/core/error.hpp>

#include <cerrno>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

struct errc_entry
{
    errc value;
    condition group;
    const char* text;
};

inline constexpr errc_entry errc_table[] = {
    {errc::invalid_digest, condition::invalid_input, "not a valid digest"},
    {errc::digest_mismatch, condition::corrupt_input, "the content does not match its digest"},
    {errc::size_mismatch, condition::corrupt_input, "the content does not have the announced size"},
    {errc::diff_id_mismatch, condition::corrupt_input, "the unpacked layer does not match its diff ID"},
    {errc::invalid_reference, condition::invalid_input, "not a valid image reference"},
    {errc::malformed_json, condition::invalid_input, "malformed JSON"},
    {errc::json_limit_exceeded, condition::limit_exceeded, "the JSON document exceeds the limits"},
    {errc::invalid_manifest, condition::invalid_input, "invalid manifest"},
    {errc::invalid_index, condition::invalid_input, "invalid index"},
    {errc::invalid_config, condition::invalid_input, "invalid image config"},
    {errc::unsupported_media_type, condition::unsupported, "unsupported media type"},
    {errc::no_matching_platform, condition::not_found, "the index has no image for the wanted platform"},
    {errc::unknown_archive_format, condition::invalid_input, "neither a docker archive nor an OCI layout"},
    {errc::missing_blob, condition::invalid_input, "the archive refers to a file or blob that it does not contain"},
    {errc::missing_image, condition::not_found, "the archive contains no such image"},
    {errc::ambiguous_image, condition::invalid_input, "the archive contains several images: name one"},
    {errc::truncated_stream, condition::corrupt_input, "the stream ends too early"},
    {errc::corrupt_stream, condition::corrupt_input, "the compressed stream is damaged"},
    {errc::unsupported_compression, condition::unsupported, "unsupported compression"},
    {errc::malformed_tar, condition::invalid_input, "malformed tar header"},
    {errc::tar_disagreement, condition::invalid_input, "the tar entry can be read in two ways"},
    {errc::unsupported_entry_type, condition::unsupported, "unsupported type of tar entry"},
    {errc::entry_escapes_layer, condition::invalid_input, "the path or link is not valid inside the layer"},
    {errc::invalid_whiteout, condition::invalid_input, "invalid whiteout"},
    {errc::missing_hard_link_target, condition::invalid_input, "the hard link's target is not in the layer"},
    {errc::too_many_entries, condition::limit_exceeded, "too many entries"},
    {errc::layer_too_large, condition::limit_exceeded, "the layer is too large"},
    {errc::compression_ratio_exceeded, condition::limit_exceeded, "the layer's compression ratio exceeds the limits"},
    {errc::path_too_long, condition::limit_exceeded, "the path is too long"},
    {errc::path_too_deep, condition::limit_exceeded, "the path is too deep"},
    {errc::xattr_too_large, condition::limit_exceeded, "the extended attribute is too large"},
    {errc::extension_too_large, condition::limit_exceeded, "the extension headers are too large or too many"},
    {errc::too_many_segments, condition::limit_exceeded, "too many segments in a sparse file"},
    {errc::too_many_members, condition::limit_exceeded, "the archive has too many members"},
    {errc::too_many_candidates, condition::limit_exceeded, "the stream has too many candidate layers"},
    {errc::not_a_repository, condition::not_found, "not a repository"},
    {errc::unsupported_repository, condition::unsupported, "this version or storage policy cannot use the repository"},
    {errc::repository_open_to_others, condition::permission_denied, "other users can enter the repository's directory"},
    {errc::repository_of_another_user, condition::permission_denied, "the repository belongs to another user"},
    {errc::corrupt_repository, condition::corrupt_input, "a record of the repository is damaged"},
    {errc::repository_busy, condition::conflict, "other operations hold the repository's lock"},
    {errc::image_not_found, condition::not_found, "no such image"},
    {errc::layer_not_found, condition::not_found, "no such layer"},
    {errc::ambiguous_image_id, condition::invalid_input, "the image ID is ambiguous"},
    {errc::tag_not_found, condition::not_found, "no such tag"},
    {errc::invalid_asset, condition::corrupt_input, "the stored layer is damaged"},
    {errc::ambiguous_layer_id, condition::invalid_input, "the chain ID is ambiguous"},
    {errc::entry_not_found, condition::not_found, "the layer has no such entry"},
    {errc::not_a_regular_file, condition::invalid_input, "not a regular file"},
    {errc::diff_changed, condition::corrupt_input, "a file of the unpacked layer has changed"},
    {errc::diff_damaged, condition::corrupt_input, "the stored layer was found damaged"},
    {errc::missing_recipe, condition::not_found, "the layer has no recipe for its tar: import it again"},
    {errc::image_cannot_be_composed, condition::invalid_input, "the image config does not match the layers"},
    {errc::image_in_use, condition::conflict, "the image is in use"},
    {errc::layer_in_use, condition::conflict, "the layer is in use"},
    {errc::lease_not_found, condition::not_found, "no such lease"},
    {errc::parent_not_mounted, condition::not_found, "the parent layer is missing"},
    {errc::mount_failed, condition::system_failure, "mounting failed"},
    {errc::unmount_failed, condition::system_failure, "unmounting failed"},
    {errc::mount_not_possible, condition::unsupported, "the requested mount is not possible"},
    {errc::mount_exists, condition::conflict, "the target is mounted already"},
    {errc::mount_not_found, condition::not_found, "no such mount"},
    {errc::mount_covered, condition::conflict, "something else is mounted on top"},
    {errc::mount_not_durable, condition::conflict, "files in the mount may be incomplete: the machine went down"},
    {errc::mount_read_only, condition::conflict, "the mount is read-only"},
    {errc::upper_changed, condition::conflict, "the upper directory changed while it was read"},
    {errc::too_many_layers, condition::limit_exceeded, "the image has more than the 500 layers that overlayfs can stack"},
    {errc::invalid_handle, condition::invalid_input, "the handle is empty"},
    {errc::not_in_registry, condition::not_found, "the registry does not have it, or does not show it to this user"},
    {errc::login_refused, condition::permission_denied, "the registry refused the credentials"},
    {errc::malformed_answer, condition::invalid_input, "malformed answer of the registry"},
    {errc::registry_unavailable, condition::system_failure, "the registry is not available"},
    {errc::registry_busy, condition::system_failure, "the registry is busy"},
    {errc::redirect_refused, condition::permission_denied, "the client does not follow to that place"},
    {errc::registry_blocked, condition::permission_denied, "the settings forbid it"},
    {errc::invalid_settings, condition::invalid_input, "malformed settings"},
    {errc::credential_helper_failed, condition::system_failure, "the credential helper failed"},
};

inline const errc_entry* find_errc(int value) noexcept
{
    for (const auto& row : errc_table)
        if (static_cast<int>(row.value) == value)
            return &row;
    return nullptr;
}

inline bool errno_is(int number, condition group) noexcept
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return group == condition::no_space;
    case EACCES:
    case EPERM:
        return group == condition::permission_denied;
    case ENOENT:
        return group == condition::not_found;
    case EEXIST:
    case EBUSY:
        return group == condition::conflict;
    case ENOSYS:
    case EOPNOTSUPP:
        return group == condition::unsupported;
    case ECANCELED:
        return group == condition::cancelled;
    default:
        return group == condition::system_failure;
    }
}

// The categories are function-local statics of inline functions: one object in the whole program. Their fixed IDs make the
// categories of two shared libraries compare equal.
class errc_category final : public boost::system::error_category
{
public:
    constexpr errc_category() noexcept : error_category(0x6f7665726d6e7431) {}
    const char* name() const noexcept override { return "overmount"; }
    std::string message(int value) const override
    {
        const auto* row = find_errc(value);
        return row != nullptr ? row->text : "unknown error";
    }
    bool equivalent(int value, const boost::system::error_condition& group) const noexcept override
    {
        if (group.category() != condition_category())
            return default_error_condition(value) == group;
        const auto* row = find_errc(value);
        return row != nullptr && static_cast<int>(row->group) == group.value();
    }
};

class condition_category_type final : public boost::system::error_category
{
public:
    constexpr condition_category_type() noexcept : error_category(0x6f7665726d6e7432) {}
    const char* name() const noexcept override { return "overmount.condition"; }
    std::string message(int value) const override
    {
        switch (static_cast<condition>(value)) {
        case condition::invalid_input: return "invalid input";
        case condition::corrupt_input: return "corrupt input";
        case condition::limit_exceeded: return "limit exceeded";
        case condition::not_found: return "not found";
        case condition::conflict: return "conflict";
        case condition::unsupported: return "unsupported";
        case condition::cancelled: return "cancelled";
        case condition::no_space: return "no space left";
        case condition::permission_denied: return "permission denied";
        case condition::system_failure: return "system failure";
        }
        return "unknown condition";
    }
    // The categories of the kernel and of Asio do not know our conditions, so we map their codes here.
    bool equivalent(const boost::system::error_code& code, int value) const noexcept override
    {
        if (code.category() == boost::system::system_category() || code.category() == boost::system::generic_category())
            return errno_is(code.value(), static_cast<condition>(value));
        return false;
    }
};

} // namespace detail

OVERMOUNT_DECL const boost::system::error_category& error_category() noexcept
{
    static constexpr detail::errc_category category;
    return category;
}

OVERMOUNT_DECL const boost::system::error_category& condition_category() noexcept
{
    static constexpr detail::condition_category_type category;
    return category;
}

OVERMOUNT_DECL boost::system::error_code make_error_code(errc value) noexcept
{
    return {static_cast<int>(value), error_category()};
}

OVERMOUNT_DECL boost::system::error_condition make_error_condition(condition value) noexcept
{
    return {static_cast<int>(value), condition_category()};
}

OVERMOUNT_DECL std::string_view to_string(stage value) noexcept
{
    switch (value) {
    case stage::none: return "";
    case stage::source: return "source";
    case stage::manifest: return "manifest";
    case stage::decode: return "decode";
    case stage::framing: return "tar";
    case stage::extract: return "unpack";
    case stage::storage: return "storage";
    case stage::repository: return "repository";
    case stage::mount: return "mount";
    case stage::target: return "target";
    }
    return "";
}

OVERMOUNT_DECL error::error(boost::system::error_code code) : system_error(code) { compose(); }
OVERMOUNT_DECL error::error(errc code) : error(make_error_code(code)) {}

OVERMOUNT_DECL error error::from_errno(int number)
{
    return error(boost::system::error_code(number, boost::system::system_category()));
}

OVERMOUNT_DECL error& error::at(overmount::stage value)
{
    stage_ = value;
    compose();
    return *this;
}

OVERMOUNT_DECL error& error::layer(std::string_view name)
{
    layer_ = name;
    compose();
    return *this;
}

OVERMOUNT_DECL error& error::entry(std::string_view path)
{
    entry_ = path;
    compose();
    return *this;
}

OVERMOUNT_DECL error& error::operation(std::string_view name)
{
    operation_ = name;
    compose();
    return *this;
}

OVERMOUNT_DECL error& error::detail(std::string_view words)
{
    detail_ = words;
    compose();
    return *this;
}

OVERMOUNT_DECL error& error::subject(std::string_view text)
{
    subject_ = text;
    compose();
    return *this;
}

OVERMOUNT_DECL void error::compose()
{
    std::string text;
    const auto part = [&text](std::string_view label, std::string_view value) {
        if (value.empty())
            return;
        if (!text.empty())
            text += ": ";
        text.append(label).append(value);
    };
    part("", to_string(stage_));
    part("layer ", escape(layer_));
    part("entry ", escape(entry_));
    part("", operation_);
    part("", escape(subject_));
    part("", code().message());
    if (!detail_.empty())
        text.append(" (").append(detail_).append(")");
    what_ = std::move(text);
}

OVERMOUNT_DECL std::string escape(std::string_view bytes, std::size_t limit)
{
    static constexpr char hex[] = "0123456789abcdef";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (i == limit)
            return out + "...";
        const auto byte = static_cast<unsigned char>(bytes[i]);
        if (byte == '\n')
            out += "\\n";
        else if (byte == '\\')
            out += "\\\\";
        else if (byte >= 0x20 && byte < 0x7f)
            out += static_cast<char>(byte);
        else
            (out += "\\x") += {hex[byte >> 4], hex[byte & 15]};
    }
    return out;
}

} // namespace overmount::OVERMOUNT_ABI

#endif
