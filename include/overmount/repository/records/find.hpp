// Finds the object that a user-given name stands for.
#ifndef OVERMOUNT_REPOSITORY_RECORDS_FIND_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_FIND_HPP

#include <overmount/oci/reference.hpp>
#include <overmount/repository/records/store.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The ID whose hex digits begin with `name`, which has at least four of them; nullopt if there is none. Throws `ambiguous` if
// several IDs match.
template <class Id>
[[nodiscard]] std::optional<Id> unique_prefix(const std::vector<Id>& ids, std::string_view name, errc ambiguous)
{
    constexpr std::size_t min_digits = 4;
    const std::size_t digits = name.find(':') + 1; // npos + 1 is 0
    std::optional<Id> out;
    if (name.size() < digits + min_digits)
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

// The image with this tag, or else with this ID or ID prefix; nullopt if there is none. A name that begins with a digest algorithm
// is never a tag.
[[nodiscard]] inline std::optional<digest> find_image_id(const store& records, std::string_view name)
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

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
