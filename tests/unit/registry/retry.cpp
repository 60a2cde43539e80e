#include <overmount/registry/retry.hpp>

#include "support/catch.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace {

using overmount::errc;
using overmount::registry::decide_retry;
using overmount::registry::host_gate;
using overmount::registry::is_retried;
using overmount::registry::retry_after;
using overmount::registry::retry_policy;
using namespace std::chrono_literals;
using std::chrono::system_clock;

constexpr std::optional<std::chrono::seconds> no_header;

// The example of RFC 9110, 1994-11-06 08:49:37, in seconds since 1970.
system_clock::time_point at(std::chrono::seconds since_1970)
{
    return system_clock::time_point(since_1970);
}
const system_clock::time_point example = at(784111777s);
const system_clock::time_point in_2026 = at(1790000000s); // 2026-09-21 14:13:20

TEST_CASE("a registry that is busy or fails is asked again, one that refuses is not")
{
    for (const unsigned status : {408u, 429u, 500u, 502u, 503u, 504u}) {
        INFO(status);
        CHECK(is_retried(status));
    }
    for (const unsigned status : {0u, 200u, 206u, 307u, 400u, 401u, 403u, 404u, 405u, 416u, 501u, 505u, 507u}) {
        INFO(status);
        CHECK_FALSE(is_retried(status));
    }
}

TEST_CASE("Retry-After in seconds is read")
{
    CHECK(retry_after("0", example) == 0s);
    CHECK(retry_after("120", example) == 120s);
    CHECK(retry_after(" 7\t", example) == 7s);
}

TEST_CASE("Retry-After as a date is read in each of the three formats")
{
    for (const std::string_view text :
         {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"}) {
        INFO(text);
        CHECK(retry_after(text, example - 30s) == 30s);
        CHECK(retry_after(text, example) == 0s);
    }
    CHECK(retry_after("Sun Nov 16 08:49:37 1994", example) == 10 * 24h);
}

TEST_CASE("Retry-After as a date knows all months, leap years and leap seconds")
{
    const std::pair<std::string_view, std::chrono::seconds> rows[] = {
        {"Sat, 01 Jan 2000 00:00:00 GMT", 946684800s},  {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400s},
        {"Wed, 01 Mar 2000 00:00:00 GMT", 951868800s},  {"Sat, 01 Apr 2000 00:00:00 GMT", 954547200s},
        {"Mon, 01 May 2000 00:00:00 GMT", 957139200s},  {"Thu, 01 Jun 2000 00:00:00 GMT", 959817600s},
        {"Sat, 01 Jul 2000 00:00:00 GMT", 962409600s},  {"Tue, 01 Aug 2000 00:00:00 GMT", 965088000s},
        {"Fri, 01 Sep 2000 00:00:00 GMT", 967766400s},  {"Sun, 01 Oct 2000 00:00:00 GMT", 970358400s},
        {"Wed, 01 Nov 2000 00:00:00 GMT", 973036800s},  {"Fri, 01 Dec 2000 00:00:00 GMT", 975628800s},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800s}, {"Thursday, 31-Dec-70 23:59:59 GMT", 31535999s},
    };
    for (const auto& [text, seconds] : rows) {
        INFO(text);
        CHECK(retry_after(text, at(seconds - 1s)) == 1s);
        CHECK(retry_after(text, at(seconds)) == 0s);
    }
}

TEST_CASE("Retry-After as a date in the past is 0")
{
    CHECK(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", in_2026) == 0s);
    CHECK(retry_after("Sat, 01 Jan 0000 00:00:00 GMT", in_2026) == 0s);
}

TEST_CASE("a year of two digits lies at most fifty years ahead")
{
    CHECK(retry_after("Monday, 21-Sep-26 14:14:20 GMT", in_2026) == 60s);
    CHECK(retry_after("Sunday, 06-Nov-94 08:49:37 GMT", in_2026) == 0s);
    CHECK(retry_after("Monday, 21-Sep-76 14:14:20 GMT", in_2026) == 365 * 24h);
    CHECK(retry_after("Monday, 21-Sep-77 14:14:20 GMT", in_2026) == 0s);
}

TEST_CASE("a fraction of a second until the date in Retry-After counts as a whole one")
{
    CHECK(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", example - 1500ms) == 2s);
}

TEST_CASE("Retry-After is at most a year")
{
    const auto year = std::chrono::seconds(365 * 24h);
    CHECK(retry_after("31536001", example) == year);
    CHECK(retry_after("18446744073709551617", example) == year);
    CHECK(retry_after(std::string(10'000, '9'), example) == year);
    CHECK(retry_after("Fri, 31 Dec 9999 23:59:59 GMT", example) == year);
}

TEST_CASE("a Retry-After that is neither a number nor a date counts as missing")
{
    for (const std::string_view text :
         {"", " ", "soon", "-1", "+1", "1.5", "1 s", "1, 2", "0x10", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
          "Sun, 06 Nov 1994 08:49:37 GMT+1", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun 06 Nov 1994 08:49:37 GMT",
          "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
          "Wed, 29 Feb 1995 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT", "Son, 06 Nov 1994 08:49:37 GMT",
          "Sun, 06 Dez 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
          "Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 06-Nov-94 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT",
          "Sun Nov 6 08:49:37 1994", "Sun Nov   6 08:49:37 1994", "Sun Nov  6 08:49:37 1994 GMT", "1994-11-06T08:49:37Z"}) {
        INFO(text);
        CHECK_FALSE(retry_after(text, example));
    }
}

TEST_CASE("the wait before the next try doubles up to a bound")
{
    retry_policy policy;
    policy.tries = 1000;
    const std::pair<unsigned, std::chrono::milliseconds> rows[] = {{0, 500ms}, {1, 500ms},     {2, 1000ms},  {3, 2000ms},
                                                                   {6, 16s},   {7, 30'000ms}, {8, 30'000ms}, {999, 30'000ms}};
    for (const auto& [failures, longest] : rows) {
        INFO(failures);
        CHECK(decide_retry(503, no_header, failures, 1, policy).wait() == longest);
        CHECK(decide_retry(503, no_header, failures, 0, policy).wait() == longest / 2);
        CHECK(decide_retry(503, no_header, failures, 0.5, policy).wait() == longest * 3 / 4);
    }
}

TEST_CASE("the first wait does not exceed the longest one")
{
    retry_policy policy;
    policy.longest_wait = 100ms;
    CHECK(decide_retry(503, no_header, 1, 1, policy).wait() == 100ms);
}

TEST_CASE("a lost connection to a registry is retried like a busy registry")
{
    CHECK(decide_retry(0, no_header, 1, 1, retry_policy()).retries());
    CHECK(decide_retry(0, no_header, 1, 1, retry_policy()).wait() == 500ms);
    CHECK_FALSE(decide_retry(0, no_header, 5, 1, retry_policy()).retries());
}

TEST_CASE("a status of the registry that will not change is not retried")
{
    for (const unsigned status : {400u, 401u, 403u, 404u, 416u, 501u}) {
        INFO(status);
        CHECK_FALSE(decide_retry(status, no_header, 1, 1, retry_policy()).retries());
        CHECK_FALSE(decide_retry(status, 3600s, 1, 1, retry_policy()).retries());
    }
}

TEST_CASE("five tries without progress end a request to the registry")
{
    CHECK(decide_retry(503, no_header, 4, 1, retry_policy()).retries());
    CHECK_FALSE(decide_retry(503, no_header, 5, 1, retry_policy()).retries());
    CHECK_FALSE(decide_retry(503, no_header, 6, 1, retry_policy()).retries());
    CHECK_FALSE(decide_retry(503, 1s, 5, 1, retry_policy()).retries());
}

TEST_CASE("Retry-After is heeded up to a minute, with jitter on top")
{
    CHECK(decide_retry(429, 60s, 1, 0, retry_policy()).wait() == 60'250ms);
    CHECK(decide_retry(429, 60s, 1, 1, retry_policy()).wait() == 60'500ms);
    CHECK(decide_retry(503, 0s, 1, 1, retry_policy()).wait() == 500ms);
}

TEST_CASE("a longer Retry-After is an error that says how long it is")
{
    for (const unsigned failures : {1u, 5u}) {
        try {
            (void)decide_retry(429, 3600s, failures, 1, retry_policy());
            FAIL();
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::registry_busy);
            CHECK(failure.at() == overmount::stage::source);
            CHECK(failure.detail() == "status 429: the registry asks to wait 3600 seconds; at most 60 are waited");
        }
    }
    CHECK_THROWS_AS(decide_retry(503, 61s, 1, 1, retry_policy()), overmount::error);
}

TEST_CASE("the gate of a registry's host is open until it is closed")
{
    host_gate gate;
    const host_gate::time_point now(1000s);
    CHECK(gate.not_before() <= now);
    gate.close_until(now + 10s);
    CHECK(gate.not_before() == now + 10s);
    gate.close_until(now + 5s);
    CHECK(gate.not_before() == now + 10s);
    gate.close_until(now + 20s);
    CHECK(gate.not_before() == now + 20s);
}

} // namespace
