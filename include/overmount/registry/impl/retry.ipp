#ifndef OVERMOUNT_REGISTRY_IMPL_RETRY_IPP
#define OVERMOUNT_REGISTRY_IMPL_RETRY_IPP

#include <overmount/registry/retry.hpp>

#include <algorithm>
#include <span>
#include <string>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline constexpr std::chrono::seconds longest_retry_after = std::chrono::hours(24 * 365);

struct http_date
{
    unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
};

// Reads exactly `count` digits from the front of `text`.
inline bool take_date_digits(std::string_view& text, std::size_t count, unsigned& out) noexcept
{
    out = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (i == text.size() || text[i] < '0' || text[i] > '9')
            return false;
        out = out * 10 + static_cast<unsigned>(text[i] - '0');
    }
    text.remove_prefix(count);
    return true;
}

// Reads one of `names`, or the first `length` letters of one, from the front of `text`; `out` becomes its number, from 1.
inline bool take_date_name(std::string_view& text, std::span<const std::string_view> names, std::size_t length,
                           unsigned& out) noexcept
{
    for (std::size_t i = 0; i < names.size(); ++i) {
        const auto name = names[i].substr(0, length);
        if (!text.starts_with(name))
            continue;
        text.remove_prefix(name.size());
        out = static_cast<unsigned>(i + 1);
        return true;
    }
    return false;
}

// Matches `text` with a pattern. In the pattern, `a` is a short weekday, `A` a long one, `b` a month, `d` a day with two digits,
// `e` one with a space for the first digit, `y` and `Y` a year with two and four digits, `H`, `M` and `S` the time, and `Z` the
// zone GMT.
inline bool match_http_date(std::string_view pattern, std::string_view text, http_date& out) noexcept
{
    static constexpr std::string_view weekdays[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
    static constexpr std::string_view months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static constexpr std::string_view zone[] = {"GMT"};
    const auto take = [&text, &out](char what) {
        unsigned ignored = 0;
        const bool padded = what == 'e' && text.starts_with(' ');
        switch (what) {
        case 'a': return take_date_name(text, weekdays, 3, ignored);
        case 'A': return take_date_name(text, weekdays, text.npos, ignored);
        case 'b': return take_date_name(text, months, 3, out.month);
        case 'd': return take_date_digits(text, 2, out.day);
        case 'e': text.remove_prefix(padded ? 1 : 0); return take_date_digits(text, padded ? 1 : 2, out.day);
        case 'y': return take_date_digits(text, 2, out.year);
        case 'Y': return take_date_digits(text, 4, out.year);
        case 'H': return take_date_digits(text, 2, out.hour);
        case 'M': return take_date_digits(text, 2, out.minute);
        case 'S': return take_date_digits(text, 2, out.second);
        case 'Z': return take_date_name(text, zone, 3, ignored);
        default: break;
        }
        const bool same = text.starts_with(what);
        text.remove_prefix(same ? 1 : 0);
        return same;
    };
    return std::all_of(pattern.begin(), pattern.end(), take) && text.empty();
}

// A date of HTTP in seconds; nullopt if it is none. `now` tells the century of a year with two digits.
inline std::optional<std::chrono::sys_seconds> parse_http_date(std::string_view text, std::chrono::sys_seconds now) noexcept
{
    namespace chrono = std::chrono;
    http_date date;
    if (match_http_date("A, d-b-y H:M:S Z", text, date)) {
        const int this_year = static_cast<int>(chrono::year_month_day(chrono::floor<chrono::days>(now)).year());
        const int in_this_century = this_year - this_year % 100 + static_cast<int>(date.year);
        date.year = static_cast<unsigned>(in_this_century > this_year + 50 ? in_this_century - 100 : in_this_century);
    } else if (!match_http_date("a, d b Y H:M:S Z", text, date) && !match_http_date("a b e H:M:S Y", text, date)) {
        return std::nullopt;
    }
    const chrono::year_month_day midnight(chrono::year(static_cast<int>(date.year)), chrono::month(date.month),
                                          chrono::day(date.day));
    if (!midnight.ok() || date.hour > 23 || date.minute > 59 || date.second > 60) // 60: a leap second
        return std::nullopt;
    return chrono::sys_days(midnight) + chrono::hours(date.hour) + chrono::minutes(date.minute) + chrono::seconds(date.second);
}

} // namespace detail

OVERMOUNT_DECL bool is_retried(unsigned status) noexcept
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

OVERMOUNT_DECL std::optional<std::chrono::seconds> retry_after(std::string_view header, std::chrono::system_clock::time_point now)
{
    using std::chrono::seconds;
    const auto first = std::min(header.find_first_not_of(" \t"), header.size());
    header = header.substr(first, header.find_last_not_of(" \t") + 1 - first);
    if (header.empty())
        return std::nullopt;
    if (header.find_first_not_of("0123456789") != header.npos) {
        // In seconds, whose range is larger than that of the clock.
        const auto today = std::chrono::floor<seconds>(now);
        const auto date = detail::parse_http_date(header, today);
        if (!date)
            return std::nullopt;
        return std::clamp<seconds>(*date - today, seconds(0), detail::longest_retry_after);
    }
    seconds out(0);
    for (const char digit : header)
        out = std::min(out * 10 + seconds(digit - '0'), detail::longest_retry_after);
    return out;
}

OVERMOUNT_DECL retry_decision decide_retry(unsigned status, std::optional<std::chrono::seconds> after, unsigned failures_in_a_row,
                                           double random, const retry_policy& policy)
{
    using std::chrono::milliseconds;
    if (status != 0 && !is_retried(status))
        return {};
    if (after && *after > policy.longest_retry_after)
        throw error(errc::registry_busy)
            .at(stage::source)
            .detail("status " + std::to_string(status) + ": the registry asks to wait " + std::to_string(after->count()) +
                    " seconds; at most " + std::to_string(policy.longest_retry_after.count()) + " are waited");
    if (failures_in_a_row >= policy.tries)
        return {};
    milliseconds wait = std::min(policy.first_wait, policy.longest_wait);
    for (unsigned i = 1; i < failures_in_a_row && wait < policy.longest_wait; ++i)
        wait = std::min(wait * 2, policy.longest_wait);
    const auto jittered = milliseconds(static_cast<milliseconds::rep>(static_cast<double>(wait.count()) * (0.5 + random / 2)));
    return retry_decision(jittered + after.value_or(std::chrono::seconds(0)));
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
