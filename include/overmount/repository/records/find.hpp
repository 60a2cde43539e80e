// What a name, typed by somebody, means in a repository.
#ifndef OVERMOUNT_REPOSITORY_RECORDS_FIND_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_FIND_HPP

#include <overmount/oci/reference.hpp>
#include <overmount/repository/records/store.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// The one whose hex digits begin with `name`; nothing where there is none. Throws `ambiguous` for several.
template <class Id>
[[nodiscard]] std::optional<Id> unique_prefix(const std::vector<Id>& ids, std::string_view name, errc ambiguous)
{
    std::optional<Id> out;
    for (const Id& id : ids) {
        const std::string whole = id.string();
        const bool hex = std::string_view(whole).substr(whole.find(':') + 1).starts_with(name);
        if (name.empty() || !(hex || (whole.starts_with(name) && name.find(':') < name.size() - 1)))
            continue;
        if (out)
            throw error(ambiguous).at(stage::repository).subject(name);
        out = id;
    }
    return out;
}

// The image of an ID, the beginning of one, or a tag; nothing where there is none.
OVERMOUNT_LAZY [[nodiscard]] inline std::optional<digest> find_image_id(const store& records, std::string_view name)
{
    const auto out = unique_prefix(records.images(), name, errc::ambiguous_image_id);
    if (out || name.starts_with("sha256:"))
        return out;
    try {
        if (const auto found = records.tag(reference::parse(name).with_default_tag().string()))
            return found->image;
    } catch (const error& failure) {
        if (failure.code() != errc::invalid_reference)
            throw;
    }
    return std::nullopt;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
