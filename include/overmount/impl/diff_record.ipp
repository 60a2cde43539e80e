#ifndef OVERMOUNT_IMPL_DIFF_RECORD_IPP
#define OVERMOUNT_IMPL_DIFF_RECORD_IPP

#include <overmount/detail/fs.hpp>
#include <overmount/storage/diff_record.hpp>

#include <nlohmann/json.hpp>

namespace overmount::inline OVERMOUNT_ABI {

OVERMOUNT_DECL std::string_view to_string(durability value) noexcept
{
    switch (value) {
    case durability::none: return "none";
    case durability::batch: return "batch";
    case durability::full: return "full";
    }
    return "none";
}

namespace detail {

// The records of a repository are its owner's own: a document tree is fine for them.
template <class Read>
auto read_record(std::string_view json, Read read)
{
    try {
        return read(nlohmann::json::parse(json));
    } catch (const nlohmann::json::exception& failure) {
        throw error(errc::corrupt_repository).at(stage::repository).detail(failure.what());
    }
}

inline nlohmann::json encoded_paths(const std::vector<std::string>& paths)
{
    auto out = nlohmann::json::array();
    for (const std::string& path : paths)
        out.push_back(percent_encode(path));
    return out;
}

inline std::vector<std::string> decoded_paths(const nlohmann::json& list)
{
    std::vector<std::string> out;
    for (const auto& path : list)
        out.push_back(percent_decode(path.get_ref<const std::string&>()));
    return out;
}

inline durability parse_durability(const std::string& name)
{
    return name == "full" ? durability::full : name == "batch" ? durability::batch : durability::none;
}

} // namespace detail

OVERMOUNT_DECL std::string diff_record::to_json() const
{
    return nlohmann::json{{"version", 1},
                          {"form", form},
                          {"xattrs", xattrs},
                          {"owners", owners},
                          {"sync", to_string(sync)},
                          {"boot_id", boot},
                          {"entries", entries},
                          {"bytes", bytes},
                          {"implied_root", implied_root},
                          {"opaque_root", opaque_root},
                          {"skipped_xattrs", skipped_xattrs},
                          {"implied", detail::encoded_paths(implied)},
                          {"whiteout_directories", detail::encoded_paths(whiteout_directories)}}
        .dump();
}

OVERMOUNT_DECL diff_record diff_record::parse(std::string_view json)
{
    return detail::read_record(json, [](const nlohmann::json& value) {
        diff_record out;
        out.form = value.at("form");
        out.xattrs = value.at("xattrs");
        out.owners = value.at("owners");
        out.sync = detail::parse_durability(value.at("sync"));
        out.boot = value.at("boot_id");
        out.entries = value.at("entries");
        out.bytes = value.at("bytes");
        out.implied_root = value.at("implied_root");
        out.opaque_root = value.at("opaque_root");
        out.skipped_xattrs = value.at("skipped_xattrs");
        out.implied = detail::decoded_paths(value.at("implied"));
        out.whiteout_directories = detail::decoded_paths(value.at("whiteout_directories"));
        return out;
    });
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif
