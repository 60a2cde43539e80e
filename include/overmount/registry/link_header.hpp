#ifndef OVERMOUNT_REGISTRY_LINK_HEADER_HPP
#define OVERMOUNT_REGISTRY_LINK_HEADER_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/limits.hpp>

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// The target of the first link with the relation `next`, as it stands there: absolute, or relative to the URL of the page.
/// nullopt on the last page.
/// \param link_values The values of all headers Link of one answer; each may have several links.
/// Throws `malformed_answer`: a link that cannot be read might be the one to the next page. See RFC 8288, 3.
[[nodiscard]] std::optional<std::string> next_link(const std::vector<std::string>& link_values);

/// Ends a list of pages that leads in a circle or does not end.
class page_guard
{
public:
    explicit page_guard(std::size_t most_pages) noexcept : pages_left_(most_pages) {}

    /// Call it with the whole URL of each page, the first included, before it is asked for. The URL is not kept.
    /// Throws `malformed_answer` if that page was entered before, `json_limit_exceeded` if there are more pages than allowed.
    void enter(std::string_view url);

private:
    std::set<digest> entered_;
    std::size_t pages_left_;
};

/// Reads one page of the list of tags, `{"name": ..., "tags": [...]}`; null for a list is an empty one (Nexus). The order is the
/// registry's.
/// Throws `malformed_answer`, also for a tag outside of the grammar; `malformed_json`, `json_limit_exceeded`.
/// See distribution spec, "Listing Tags".
[[nodiscard]] std::vector<std::string> parse_tag_list(std::string_view body, const limits& bounds);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/link_header.ipp>
#endif

#endif
