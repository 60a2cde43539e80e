#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_CHECK_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_CHECK_IPP

#include <overmount/check.hpp>

namespace overmount::OVERMOUNT_ABI {

OVERMOUNT_DECL std::string_view to_string(finding_kind value) noexcept
{
    switch (value) {
    case finding_kind::config_changed: return "config_changed";
    case finding_kind::manifest_changed: return "manifest_changed";
    case finding_kind::blob_changed: return "blob_changed";
    case finding_kind::record_unreadable: return "record_unreadable";
    case finding_kind::chain_id_mismatch: return "chain_id_mismatch";
    case finding_kind::layer_missing: return "layer_missing";
    case finding_kind::parent_missing: return "parent_missing";
    case finding_kind::diff_missing: return "diff_missing";
    case finding_kind::image_missing: return "image_missing";
    case finding_kind::manifest_missing: return "manifest_missing";
    case finding_kind::correction_missing: return "correction_missing";
    case finding_kind::diff_changed: return "diff_changed";
    case finding_kind::diff_unreadable: return "diff_unreadable";
    case finding_kind::diff_marked: return "diff_marked";
    }
    return "unknown";
}

} // namespace overmount::OVERMOUNT_ABI

#endif
