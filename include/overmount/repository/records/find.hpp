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

// The one whose hex digits begin with `name`, at least four of them; nothing where there is none. Throws `ambiguous` for
// several.
template <class Id>
[[nodiscard]] std::optional<Id> unique_prefix(const std::vector<Id>& ids, std::string_view name, errc ambiguous)
{
    constexpr std::size_t fewest = 4;
    const std::size_t digits = name.find(':') + 1; // npos + 1 is 0
    std::optional<Id> out;
    if (name.size() < digits + fewest)
        return out;
    for (const Id& id : ids) {
        const std::string whole = id.string();
        if (!std::string_view(whole).substr(digits != 0 ? 0 : whole.find(':') + 1).starts_with(name))
            continue;
        if (out)
            throw error(ambiguous).at(stage::repository).subject(name);
        out = id;
    }
    return out;
}

// The image that a tag names, else the one of an ID or of the beginning of its hex digits; nothing where there is none.
// What begins with an algorithm is no tag.
OVERMOUNT_LAZY [[nodiscard]] inline std::optional<digest> find_image_id(const store& records, std::string_view name)
{
    const auto by_digits = [&] { return unique_prefix(records.images(), name, errc::ambiguous_image_id); };
    if (name.starts_with("sha256:") || name.starts_with("sha512:"))
        return by_digits();
    try {
        if (const auto found = records.tag(reference::parse(name).with_default_tag().string()))
            return found->image;
    } catch (const error& failure) {
        if (failure.code() != errc::invalid_reference)
            throw;
    }
    return by_digits();
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
