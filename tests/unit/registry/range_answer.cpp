#include <overmount/registry/range_answer.hpp>

#include "support/catch.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace {

using overmount::errc;
using overmount::registry::range_answer;
using overmount::registry::range_header;
using overmount::registry::read_range_answer;

constexpr std::optional<std::string_view> no_range;
constexpr std::optional<std::uint64_t> unknown;

// A 206 to a request for the bytes from 100 on of a blob of 1000 bytes.
range_answer partial(std::optional<std::string_view> content_range, std::optional<std::uint64_t> content_length = unknown)
{
    return read_range_answer(206, content_range, content_length, "", 100, 1000, true);
}

bool refused(unsigned status, std::optional<std::string_view> content_range, std::string_view content_encoding = "",
             std::optional<std::uint64_t> size = 1000, std::uint64_t from = 100)
{
    try {
        (void)read_range_answer(status, content_range, unknown, content_encoding, from, size, true);
    } catch (const overmount::error& failure) {
        return failure.code() == errc::malformed_answer && failure.at() == overmount::stage::source;
    }
    return false;
}

TEST_CASE("a request for the rest of a blob has the header Range")
{
    CHECK(range_header(0) == "bytes=0-");
    CHECK(range_header(18446744073709551615u) == "bytes=18446744073709551615-");
}

TEST_CASE("a 206 from the wanted byte on is joined")
{
    for (const std::string_view text : {"bytes 100-999/1000", "bytes 100-999/*", "Bytes 100-999/1000"}) {
        INFO(text);
        CHECK(partial(text).skip() == 0);
        CHECK(partial(text).end() == 1000);
    }
}

TEST_CASE("a 206 with a shorter range says where to ask on")
{
    CHECK(partial("bytes 100-199/1000").end() == 200);
    CHECK(partial("bytes 100-100/*").end() == 101);
}

TEST_CASE("a 206 that starts elsewhere is not joined")
{
    for (const std::string_view text : {"bytes 0-999/1000", "bytes 99-999/1000", "bytes 101-999/1000"}) {
        INFO(text);
        CHECK(refused(206, text));
    }
}

TEST_CASE("a 206 without a valid Content-Range is not joined")
{
    CHECK(refused(206, no_range));
    for (const std::string_view text :
         {"", "bytes", "bytes ", "bytes 100-999", "bytes 100-/1000", "bytes -999/1000", "bytes 100/1000", "bytes */1000",
          "bytes 100-999/", "bytes 100-999/x", "bytes 100-99/1000", "bytes=100-999/1000", "bytes: 100-999/1000",
          "items 100-999/1000", "100-999/1000", "bytes  100-999/1000", "bytes 100 - 999/1000", "bytes +100-999/1000",
          "bytes 0x64-999/1000", "bytes 100-999/-1", "bytes 100/999-1000", "bytes 100-199/1000, 200-999/1000",
          "bytes 100-999/1000, bytes 100-999/1000", "bytes 100-999/1000 ", "bytes 100-1000/1000"}) {
        INFO(text);
        CHECK(refused(206, text, "", unknown));
    }
}

TEST_CASE("numbers in Content-Range do not overflow")
{
    for (const std::string_view text :
         {"bytes 100-18446744073709551615/*", "bytes 100-18446744073709551616/*",
          "bytes 18446744073709551716-18446744073709552615/*", "bytes 100-999/18446744073709552616",
          "bytes 100-99999999999999999999999999999999/*"}) {
        INFO(text);
        CHECK(refused(206, text, "", unknown));
    }
    const auto last = read_range_answer(206, "bytes 18446744073709551614-18446744073709551614/*", unknown, "",
                                        18446744073709551614u, unknown, true);
    CHECK(last.end() == 18446744073709551615u);
}

TEST_CASE("a Content-Range that contradicts the descriptor's size is refused")
{
    CHECK(refused(206, "bytes 100-999/1001"));
    CHECK(refused(206, "bytes 100-199/999"));
    CHECK(refused(206, "bytes 100-1000/*"));
    CHECK(read_range_answer(206, "bytes 100-1000/1001", unknown, "", 100, unknown, true).end() == 1001);
}

TEST_CASE("a 200 to a request for a range is skipped up to the wanted byte")
{
    const auto answer = read_range_answer(200, no_range, 1000, "", 100, 1000, true);
    CHECK(answer.skip() == 100);
    CHECK_FALSE(answer.end());
    CHECK(read_range_answer(200, "bytes 100-999/1000", unknown, "", 100, 1000, true).skip() == 100);
}

TEST_CASE("a 200 to a request without a range is taken from its first byte")
{
    CHECK(read_range_answer(200, no_range, 1000, "", 0, 1000, false).skip() == 0);
    CHECK(read_range_answer(200, no_range, 1000, "", 100, 1000, false).skip() == 0);
}

TEST_CASE("a 206 to a request without a range is joined only from the first byte on")
{
    CHECK(read_range_answer(206, "bytes 0-999/1000", unknown, "", 0, 1000, false).end() == 1000);
    CHECK_THROWS_AS(read_range_answer(206, "bytes 100-999/1000", unknown, "", 100, 1000, false), overmount::error);
}

TEST_CASE("a 416 and other statuses are never joined")
{
    for (const unsigned status : {416u, 201u, 204u, 304u, 404u, 500u, 0u}) {
        INFO(status);
        CHECK(refused(status, "bytes 100-999/1000"));
        CHECK(refused(status, "bytes */1000"));
        CHECK(refused(status, no_range));
    }
}

TEST_CASE("a Content-Encoding of a blob that was not asked for is refused")
{
    for (const std::string_view text : {"gzip", "br", "identity, gzip", "x-identity", "identitx"}) {
        INFO(text);
        CHECK(refused(200, no_range, text));
        CHECK(refused(206, "bytes 100-999/1000", text));
    }
    for (const std::string_view text : {"", "identity", "Identity"}) {
        INFO(text);
        CHECK(read_range_answer(200, no_range, unknown, text, 100, 1000, true).skip() == 100);
    }
}

TEST_CASE("a missing or wrong Content-Length of a blob is no error")
{
    for (const std::optional<std::uint64_t> length : {unknown, std::optional<std::uint64_t>(0), std::optional<std::uint64_t>(7),
                                                      std::optional<std::uint64_t>(18446744073709551615u)}) {
        INFO(length.value_or(1));
        CHECK(read_range_answer(200, no_range, length, "", 100, 1000, true).skip() == 100);
        CHECK(partial("bytes 100-999/1000", length).skip() == 0);
    }
}

TEST_CASE("a 206 ends where its range or its Content-Length ends")
{
    CHECK(partial("bytes 100-999/1000", 900).end() == 1000);
    CHECK(partial("bytes 100-999/1000", 1000).end() == 1000);
    CHECK(partial("bytes 100-999/1000", 50).end() == 150);
    CHECK(partial("bytes 100-999/1000", 0).end() == 100);
}

} // namespace
