#ifndef OVERMOUNT_REGISTRY_IMPL_RANGE_ANSWER_IPP
#define OVERMOUNT_REGISTRY_IMPL_RANGE_ANSWER_IPP

#include <overmount/registry/ascii.hpp>
#include <overmount/registry/range_answer.hpp>

#include <charconv>
#include <limits>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline std::optional<std::uint64_t> range_number(std::string_view digits) noexcept
{
    std::uint64_t out = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stop, problem] = std::from_chars(digits.data(), end, out);
    if (digits.empty() || problem != std::errc() || stop != end)
        return std::nullopt;
    return out;
}

// A Content-Range with a range, `bytes FIRST-LAST/TOTAL`, whose total may be `*`.
struct content_range
{
    std::uint64_t first, last;
    std::optional<std::uint64_t> total;
};

inline std::optional<content_range> parse_content_range(std::string_view text) noexcept
{
    const auto space = text.find(' '), dash = text.find('-'), slash = text.find('/');
    if (space == text.npos || dash == text.npos || slash == text.npos || space > dash || dash > slash ||
        !equal_ignoring_case(text.substr(0, space), "bytes"))
        return std::nullopt;
    const auto first = range_number(text.substr(space + 1, dash - space - 1));
    const auto last = range_number(text.substr(dash + 1, slash - dash - 1));
    const auto total_text = text.substr(slash + 1);
    const auto total = range_number(total_text);
    if (!first || !last || (!total && total_text != "*"))
        return std::nullopt;
    if (*last < *first || *last == std::numeric_limits<std::uint64_t>::max() || (total && *total <= *last))
        return std::nullopt;
    return content_range{*first, *last, total};
}

} // namespace detail

OVERMOUNT_DECL std::string range_header(std::uint64_t from)
{
    return "bytes=" + std::to_string(from) + "-";
}

OVERMOUNT_DECL range_answer read_range_answer(unsigned status, std::optional<std::string_view> content_range,
                                              std::optional<std::uint64_t> content_length, std::string_view content_encoding,
                                              std::uint64_t wanted_from, std::optional<std::uint64_t> size, bool ranged)
{
    const auto malformed = [status](std::string_view subject, std::string_view why) {
        return error(errc::malformed_answer)
            .at(stage::source)
            .operation("open blob")
            .subject(subject)
            .detail("status " + std::to_string(status) + ": " + std::string(why));
    };
    if (status != 200 && status != 206)
        throw malformed({}, "the registry does not send the blob from the wanted byte");
    if (!content_encoding.empty() && !equal_ignoring_case(content_encoding, "identity"))
        throw malformed(content_encoding, "the blob has a Content-Encoding, which was not asked for");
    const std::uint64_t from = ranged ? wanted_from : 0;
    if (status == 200)
        return {from, std::nullopt};
    if (!content_range)
        throw malformed({}, "Content-Range is missing");
    const auto range = detail::parse_content_range(*content_range);
    if (!range)
        throw malformed(*content_range, "this Content-Range is not valid");
    if (range->first != from)
        throw malformed(*content_range, "the range does not start at the wanted byte " + std::to_string(from));
    if (size && (range->last >= *size || (range->total && *range->total != *size)))
        throw malformed(*content_range, "the range contradicts the descriptor's size " + std::to_string(*size));
    std::uint64_t length = range->last - from + 1;
    if (content_length && *content_length < length)
        length = *content_length;
    return {0, from + length};
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
