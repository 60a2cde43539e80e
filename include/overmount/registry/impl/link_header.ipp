#ifndef OVERMOUNT_REGISTRY_IMPL_LINK_HEADER_IPP
#define OVERMOUNT_REGISTRY_IMPL_LINK_HEADER_IPP

#include <overmount/oci/detail/json.hpp>
#include <overmount/registry/ascii.hpp>
#include <overmount/registry/link_header.hpp>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// The value may hold a signed URL: the error does not show it.
inline error malformed_link(std::string_view why)
{
    return error(errc::malformed_answer).at(stage::source).operation("read Link").detail(why);
}

// One value of Link, read from front to end: `<TARGET>; NAME=VALUE; NAME="VALUE", <TARGET>; ...`.
class link_reader
{
public:
    explicit link_reader(std::string_view text) noexcept : rest_(text) {}

    // The target of the next link with the relation `next`; nullopt at the end.
    std::optional<std::string> next()
    {
        for (skip(" \t,"); !rest_.empty(); skip(" \t,")) {
            const auto end = rest_.find('>');
            if (rest_.front() != '<' || end == rest_.npos)
                throw malformed_link("a link has no target in angle brackets");
            const std::string target(rest_.substr(1, end - 1));
            rest_.remove_prefix(end + 1);
            const bool found = has_next_among_relations();
            if (!rest_.empty() && rest_.front() != ',')
                throw malformed_link("a parameter of a link is malformed");
            if (found)
                return target;
        }
        return std::nullopt;
    }

private:
    void skip(std::string_view characters) { rest_.remove_prefix(std::min(rest_.find_first_not_of(characters), rest_.size())); }

    // Only the first `rel` of a link counts.
    bool has_next_among_relations()
    {
        std::optional<bool> out;
        for (skip(" \t"); rest_.starts_with(';'); skip(" \t")) {
            rest_.remove_prefix(1);
            skip(" \t");
            const std::string name = ascii_lower(token("=;, \t"));
            skip(" \t");
            std::string value;
            if (rest_.starts_with('=')) {
                rest_.remove_prefix(1);
                skip(" \t");
                value = rest_.starts_with('"') ? quoted() : std::string(token(";, \t"));
            }
            if (name == "rel" && !out)
                out = (" " + ascii_lower(value) + " ").find(" next ") != std::string::npos;
        }
        return out.value_or(false);
    }

    std::string_view token(std::string_view ends_at)
    {
        const auto out = rest_.substr(0, rest_.find_first_of(ends_at));
        rest_.remove_prefix(out.size());
        return out;
    }

    std::string quoted()
    {
        std::string out;
        for (std::size_t i = 1; i < rest_.size(); ++i) {
            if (rest_[i] == '"') {
                rest_.remove_prefix(i + 1);
                return out;
            }
            if (rest_[i] == '\\' && ++i == rest_.size())
                break;
            out += rest_[i];
        }
        throw malformed_link("a quoted text does not end");
    }

    std::string_view rest_;
};

inline bool is_listed_tag(std::string_view text) noexcept
{
    constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return !text.empty() && text.size() <= 128 && text.front() != '.' && text.front() != '-' &&
           text.find_first_not_of(allowed) == text.npos;
}

} // namespace detail

OVERMOUNT_DECL std::optional<std::string> next_link(const std::vector<std::string>& link_values)
{
    for (const std::string& value : link_values)
        if (auto target = detail::link_reader(value).next())
            return target;
    return std::nullopt;
}

OVERMOUNT_DECL void page_guard::enter(std::string_view url)
{
    if (!entered_.insert(digest::of(url)).second)
        throw detail::malformed_link("the pages of the list lead in a circle");
    if (pages_left_ == 0)
        throw error(errc::json_limit_exceeded).at(stage::source).operation("read Link").detail("the list has too many pages");
    --pages_left_;
}

OVERMOUNT_DECL std::vector<std::string> parse_tag_list(std::string_view body, const limits& bounds)
{
    namespace json = overmount::detail;
    std::vector<std::string> out;
    const auto take = [&out](std::string tag) {
        if (!detail::is_listed_tag(tag))
            throw error(errc::malformed_answer).operation("list tags").subject(tag).detail("this is not a tag");
        out.push_back(std::move(tag));
    };
    json::read_json(body, bounds, errc::malformed_answer,
                    json::json_object({{"tags", json::json_list(json::json_text(take)).required_or_null()}}), stage::source);
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
