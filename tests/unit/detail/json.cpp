#include <overmount/detail/json.hpp>

#include "support/catch.hpp"

#include <string>
#include <string_view>

namespace {

using overmount::errc;
using overmount::limits;

// The error of reading; errc{} when there is none.
errc failure_of(std::string_view text, const limits& bounds = limits())
{
    try {
        overmount::detail::read_json(text, bounds, errc::invalid_config,
                                     [](const nlohmann::json&) { return 0; });
    } catch (const overmount::error& failure) {
        CHECK(failure.at() == overmount::stage::manifest);
        return static_cast<errc>(failure.code().value());
    }
    return errc{};
}

TEST_CASE("a document that is not JSON is malformed")
{
    for (const std::string_view text :
         {"", " ", "{", "[1,]", "{}x", "{\"a\":1,}", "nul", "'a'", "\"\xff\"", "\"\xc0\xaf\"",
          "\"\xed\xa0\x80\"", "\"\\ud800\"", "01", "{1:2}", "\"\n\""}) {
        INFO(text);
        CHECK(failure_of(text) == errc::malformed_json);
    }
    CHECK(failure_of(" {\"a\": [1, -2, 3.5, true, null, \"\\u00e4\xc3\xa4\"]} ") == errc{});
}

TEST_CASE("a document may have as many bytes as the limit says, and no more")
{
    limits bounds;
    bounds.json_bytes = 4;
    CHECK(failure_of("[1] ", bounds) == errc{});
    CHECK(failure_of("[1]  ", bounds) == errc::json_limit_exceeded);
}

TEST_CASE("a document may nest as deep as the limit says, and no deeper")
{
    limits bounds;
    bounds.json_depth = 3;
    CHECK(failure_of("[[[]],{\"a\":{}}]", bounds) == errc{});
    CHECK(failure_of("[[[[]]]]", bounds) == errc::json_limit_exceeded);
    CHECK(failure_of("{\"a\":{\"a\":{\"a\":{}}}}", bounds) == errc::json_limit_exceeded);
}

TEST_CASE("keys and values are counted, in lists and objects alike")
{
    limits bounds;
    bounds.json_values = 5;
    CHECK(failure_of("[1,2,3,4]", bounds) == errc{});
    CHECK(failure_of("[1,2,3,4,5]", bounds) == errc::json_limit_exceeded);
    CHECK(failure_of("{\"a\":1,\"b\":2}", bounds) == errc{});
    CHECK(failure_of("{\"a\":1,\"b\":2,\"c\":3}", bounds) == errc::json_limit_exceeded);
}

TEST_CASE("a million brackets are an error, not a crash")
{
    CHECK(failure_of(std::string(1'000'000, '[')) == errc::json_limit_exceeded);
    limits bounds;
    bounds.json_depth = 2'000'000;
    bounds.json_values = 2'000'000;
    CHECK(failure_of(std::string(1'000'000, '['), bounds) == errc::malformed_json);
}

TEST_CASE("what the reader misses in a document is the error that the caller names")
{
    const auto read = [](std::string_view text) {
        return overmount::detail::read_json(
            text, limits(), errc::invalid_index,
            [](const nlohmann::json& value) { return value.at("a").get<std::string>(); });
    };
    CHECK(read("{\"a\":\"x\"}") == "x");
    for (const std::string_view text : {"{}", "[]", "1", "null", "{\"a\":1}", "{\"a\":null}"}) {
        INFO(text);
        try {
            (void)read(text);
            FAIL("no error");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::invalid_index);
            CHECK_FALSE(failure.subject().empty());
            CHECK(failure.subject().find("json.exception") == std::string::npos);
        }
    }
}

TEST_CASE("what other readers see behind a NUL byte or a byte order mark is not passed by")
{
    CHECK(failure_of(std::string_view("{}\0{", 4)) == errc::malformed_json);
    CHECK(failure_of("\xef\xbb\xbf{}") == errc::malformed_json);
}

} // namespace
