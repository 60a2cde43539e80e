#ifndef OVERMOUNT_STORAGE_IMPL_DIFF_RECORD_IPP
#define OVERMOUNT_STORAGE_IMPL_DIFF_RECORD_IPP

#include <overmount/core/digest.hpp>
#include <overmount/oci/detail/json.hpp>
#include <overmount/oci/detail/json_record.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/storage/diff_record.hpp>

#include <optional>

namespace overmount::OVERMOUNT_ABI {

namespace detail {

// Parses a record as strictly as a foreign document, but without limits: the owner of the repository wrote it.
inline void read_record(std::string_view json, const json_field& root)
{
    limits open;
    open.json_bytes = open.json_values = ~std::uint64_t{0};
    try {
        read_json(json, open, errc::corrupt_repository, root, stage::repository);
    } catch (const error& failure) {
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .subject(failure.subject())
            .detail(failure.detail());
    }
}

inline std::vector<std::string> encoded_paths(const std::vector<std::string>& paths)
{
    std::vector<std::string> out;
    for (const std::string& path : paths)
        out.push_back(percent_encode(path));
    return out;
}

// A text member that may hold any bytes, percent-encoded.
[[nodiscard]] inline json_field json_encoded(std::string& out)
{
    return json_text([&out](const std::string& value) { out = percent_decode(value); });
}
[[nodiscard]] inline json_field json_encoded_list(std::vector<std::string>& out)
{
    return json_list(json_text([&out](const std::string& value) { out.push_back(percent_decode(value)); }));
}
[[nodiscard]] inline json_field json_digest(std::optional<digest>& out)
{
    return json_text([&out](const std::string& value) { out = digest::parse(value); });
}

inline durability parse_durability(const std::string& name)
{
    return name == "full" ? durability::full : name == "batch" ? durability::batch : durability::none;
}

} // namespace detail

OVERMOUNT_DECL std::string diff_record::to_json() const
{
    detail::json_record out;
    out.number("version", 1);
    out.text("form", form);
    out.text("xattrs", xattrs);
    out.text("owners", owners);
    out.text("sync", std::string(to_string(sync)));
    out.text("boot_id", boot);
    out.number("entries", entries);
    out.number("bytes", bytes);
    out.flag("implied_root", implied_root);
    out.flag("opaque_root", opaque_root);
    out.flag("skipped_xattrs", skipped_xattrs);
    out.texts("implied", detail::encoded_paths(implied));
    out.texts("whiteout_directories", detail::encoded_paths(whiteout_directories));
    return out.string();
}

OVERMOUNT_DECL diff_record diff_record::parse(std::string_view json)
{
    using detail::json_text, detail::json_number, detail::json_flag, detail::json_encoded_list;
    diff_record out;
    const auto sync = [&out](const std::string& value) { out.sync = detail::parse_durability(value); };
    detail::read_record(
        json, detail::json_object(
                  {{"form", json_text(out.form).required()},
                   {"xattrs", json_text(out.xattrs).required()},
                   {"owners", json_text(out.owners).required()},
                   {"sync", json_text(sync).required()},
                   {"boot_id", json_text(out.boot).required()},
                   {"entries", json_number(out.entries).required()},
                   {"bytes", json_number(out.bytes).required()},
                   {"implied_root", json_flag(out.implied_root).required()},
                   {"opaque_root", json_flag(out.opaque_root).required()},
                   {"skipped_xattrs", json_flag(out.skipped_xattrs).required()},
                   {"implied", json_encoded_list(out.implied).required()},
                   {"whiteout_directories", json_encoded_list(out.whiteout_directories).required()}}));
    return out;
}

} // namespace overmount::OVERMOUNT_ABI

#endif
