#include "fuzz.hpp"

#include <overmount/registry/link_header.hpp>
#include <overmount/registry/range_answer.hpp>
#include <overmount/registry/retry.hpp>

#include <string>

namespace {

// A joined range starts at the wanted byte, and never ends beyond the blob.
void check_content_range(std::string_view input)
{
    const auto answer = overmount::registry::read_range_answer(206, input, std::nullopt, "", 5, 1000, true);
    MUST(answer.skip() == 0);
    MUST(answer.end() && *answer.end() > 5 && *answer.end() <= 1000);
    MUST(input.find(" 5-") != input.npos || input.find('0') != input.npos);
}

void check_retry_after(std::string_view input)
{
    const std::chrono::system_clock::time_point now(std::chrono::seconds(784111777));
    const auto wait = overmount::registry::retry_after(input, now);
    MUST(!wait || (*wait >= std::chrono::seconds(0) && *wait <= std::chrono::hours(24 * 365)));
    MUST(!wait || !input.empty());
}

// A target is a part of the header.
void check_link(std::string_view input)
{
    const auto target = overmount::registry::next_link({std::string(input)});
    MUST(!target || input.find("<" + *target + ">") != input.npos);
}

} // namespace

// The first byte chooses the header.
void check(std::string_view input)
{
    if (input.empty())
        return;
    const auto header = input.substr(1);
    switch (static_cast<unsigned char>(input.front()) % 3) {
    case 0: return check_content_range(header);
    case 1: return check_retry_after(header);
    default: return check_link(header);
    }
}
