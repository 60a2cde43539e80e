#include <overmount/registry/token_request.hpp>

#include <overmount/core/error.hpp>
#include <overmount/registry/base64.hpp>

#include "support/catch.hpp"

#include <chrono>
#include <ostream>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using overmount::errc;
using overmount::registry_credentials;
using overmount::registry::base64_encode;
using overmount::registry::challenge;
using overmount::registry::merge_scopes;
using overmount::registry::parse_token_answer;
using overmount::registry::pull_scope;
using overmount::registry::secret;
using overmount::registry::token_answer;
using overmount::registry::token_request;
using overmount::registry::url;
using texts = std::vector<std::string>;

template <class T>
concept streamable = requires(std::ostream& out, const T& value) { out << value; };
static_assert(!streamable<token_request> && !std::is_constructible_v<std::string, token_request>);
static_assert(!streamable<token_answer> && !std::is_constructible_v<std::string, token_answer>);
static_assert(std::is_same_v<decltype(std::declval<token_request>().body()), const secret&>);
static_assert(std::is_same_v<decltype(std::declval<token_request>().authorization_header()), const secret&>);
static_assert(std::is_same_v<decltype(std::declval<token_answer>().token()), const secret&>);
static_assert(!std::is_aggregate_v<token_request> && !std::is_aggregate_v<token_answer>);

challenge bearer(const std::string& service = "reg.example.com")
{
    challenge out;
    out.scheme = "bearer";
    out.service = service;
    return out;
}

std::vector<token_request> plan(const registry_credentials& credentials, const texts& scopes = {"repository:a/b:pull"},
                                const std::string& realm = "https://auth.example.com/token", const challenge& answered = bearer())
{
    return token_request::plan_token_requests(url::parse(realm), answered, scopes, credentials);
}

TEST_CASE("the scope of a pull names the repository")
{
    CHECK(pull_scope("library/busybox") == "repository:library/busybox:pull");
}

TEST_CASE("scopes of a token are merged")
{
    struct
    {
        const char* demanded;
        texts known;
        texts expected;
    } const rows[] = {
        {"", {}, {}},
        {"", {"repository:a:pull"}, {"repository:a:pull"}},
        {"repository:a:pull", {}, {"repository:a:pull"}},
        // Actions of one repository, without duplicates, in one order.
        {"repository:a:push,pull", {"repository:a:pull"}, {"repository:a:pull,push"}},
        {"repository:a:pull", {"repository:a:push"}, {"repository:a:pull,push"}},
        {"repository:a:pull", {"repository:a:*"}, {"repository:a:*,pull"}},
        // What is demanded now comes first.
        {"repository:b:pull", {"repository:a:pull", "repository:b:push"}, {"repository:b:pull,push", "repository:a:pull"}},
        {" repository:c:pull  repository:b:pull ", {"repository:a:pull"},
         {"repository:c:pull", "repository:b:pull", "repository:a:pull"}},
        // The name may have a port; the type is a part of the resource.
        {"repository:h:5000/a:pull", {"repository:h:5000/b:pull"}, {"repository:h:5000/a:pull", "repository:h:5000/b:pull"}},
        {"repository(plugin):a:pull", {"repository:a:pull"}, {"repository(plugin):a:pull", "repository:a:pull"}},
        {"registry:catalog:*", {}, {"registry:catalog:*"}},
        {"repository:a:,", {"repository:a:pull"}, {"repository:a:pull"}},
        // Others stay as they are.
        {"openid x:y", {"openid", "x:z"}, {"openid", "x:y", "x:z"}},
    };
    for (const auto& each : rows) {
        INFO(each.demanded);
        CHECK(merge_scopes(each.demanded, each.known) == each.expected);
        CHECK(merge_scopes("", merge_scopes(each.demanded, each.known)) == each.expected);
    }
}

TEST_CASE("a token has at most 16 scopes, the demanded one among them")
{
    texts known;
    for (int i = 0; i < 20; ++i)
        known.push_back("repository:a" + std::to_string(i) + ":pull");
    const texts found = merge_scopes("repository:b:pull", known);
    CHECK(found.size() == 16);
    CHECK(found.front() == "repository:b:pull");
    CHECK(found.back() == "repository:a14:pull");
}

TEST_CASE("a token without credentials is asked for by GET")
{
    const auto requests = plan({}, {"repository:a/b:pull,push", "repository:c:pull"});
    REQUIRE(requests.size() == 1);
    CHECK(requests[0].method() == "GET");
    CHECK(requests[0].target().string() ==
          "https://auth.example.com/token?service=reg.example.com&scope=repository%3Aa%2Fb%3Apull%2Cpush"
          "&scope=repository%3Ac%3Apull&client_id=overmount");
    CHECK(requests[0].body().empty());
    CHECK(requests[0].content_type().empty());
    CHECK(requests[0].authorization_header().empty());
}

TEST_CASE("a token for a user is asked for with account and Basic")
{
    const auto requests = plan(registry_credentials::password("me+you", "hunter2"));
    REQUIRE(requests.size() == 1);
    CHECK(requests[0].method() == "GET");
    CHECK(requests[0].target().target() ==
          "/token?service=reg.example.com&scope=repository%3Aa%2Fb%3Apull&client_id=overmount&account=me%2Byou");
    CHECK(requests[0].authorization_header().reveal() == "Basic " + base64_encode("me+you:hunter2"));
    CHECK_FALSE(requests[0].try_next(401));
}

TEST_CASE("the query of a token server's own stays, and missing parts are left out")
{
    CHECK(plan({}, {}, "https://auth.example.com/token?a=%2B&b=", bearer("")).at(0).target().target() ==
          "/token?a=%2B&b=&client_id=overmount");
}

TEST_CASE("an identity token is posted, and then tried by GET")
{
    const auto requests = plan(registry_credentials::identity_token("tok+en"), {"repository:a:pull", "repository:b:pull"},
                               "https://auth.example.com/token?x=1");
    REQUIRE(requests.size() == 2);
    CHECK(requests[0].method() == "POST");
    CHECK(requests[0].target().target() == "/token?x=1");
    CHECK(requests[0].content_type() == "application/x-www-form-urlencoded");
    CHECK(requests[0].body().reveal() == "grant_type=refresh_token&refresh_token=tok%2Ben&service=reg.example.com"
                                         "&client_id=overmount&scope=repository%3Aa%3Apull%20repository%3Ab%3Apull");
    CHECK(requests[0].authorization_header().empty());
    CHECK(requests[1].method() == "GET");
    CHECK(requests[1].target().target() == "/token?x=1&service=reg.example.com&scope=repository%3Aa%3Apull"
                                           "&scope=repository%3Ab%3Apull&client_id=overmount");
    CHECK(requests[1].authorization_header().reveal() == "Basic " + base64_encode(":tok+en"));
    CHECK(requests[1].body().empty());
}

TEST_CASE("a token server that does not know the POST is asked by GET")
{
    const auto requests = plan(registry_credentials::identity_token("tok"));
    REQUIRE(requests.size() == 2);
    for (const unsigned status : {400u, 401u, 404u, 405u}) {
        INFO(status);
        CHECK(requests[0].try_next(status));
        CHECK_FALSE(requests[1].try_next(status));
    }
    for (const unsigned status : {200u, 403u, 429u, 500u, 503u}) {
        INFO(status);
        CHECK_FALSE(requests[0].try_next(status));
    }
}

TEST_CASE("no token is asked for where the user has a bearer token")
{
    CHECK(plan(registry_credentials::bearer("tok")).empty());
}

TEST_CASE("no secret is in the URL of a token request")
{
    for (const auto& credentials :
         {registry_credentials::password("user", "hunter2"), registry_credentials::identity_token("hunter2")})
        for (const token_request& each : plan(credentials))
            CHECK(each.target().string().find("hunter2") == std::string::npos);
}

TEST_CASE("a token request is not longer than a URL may be")
{
    try {
        (void)plan({}, {std::string(16 * 1024, 'a')});
        FAIL("it was accepted");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::malformed_answer);
    }
}

TEST_CASE("the answer of a token server has a token and its time")
{
    using std::chrono::seconds;
    const std::chrono::steady_clock::time_point received{seconds(1000)};
    struct
    {
        const char *json, *token;
        int good_for; // 5 seconds less than the server says
    } const rows[] = {
        {R"({"token":"t","expires_in":300})", "t", 295},
        {R"({"access_token":"t","expires_in":300})", "t", 295},
        {R"({"token":"t","access_token":"u"})", "t", 55},
        {R"({"token":"","access_token":"u"})", "u", 55},
        {R"({"token":null,"access_token":"u","expires_in":null})", "u", 55},
        // A time that is missing, too short or not a number counts as 60 seconds.
        {R"({"token":"t"})", "t", 55},
        {R"({"token":"t","expires_in":0})", "t", 55},
        {R"({"token":"t","expires_in":59})", "t", 55},
        {R"({"token":"t","expires_in":61})", "t", 56},
        {R"({"token":"t","expires_in":-1})", "t", 55},
        {R"({"token":"t","expires_in":"300"})", "t", 55},
        {R"({"token":"t","expires_in":{"a":[]}})", "t", 55},
        {R"({"token":"t","expires_in":18446744073709551615})", "t", 86395},
        {R"({"token":"t","expires_in":1e300})", "t", 55},
        // The server's clock is not believed.
        {R"({"token":"t","expires_in":300,"issued_at":"2001-01-01T00:00:00Z"})", "t", 295},
        {R"({"token":"t","issued_at":5})", "t", 55},
        // Unknown fields, also those that differ only in case.
        {R"({"Token":"u","token":"t","refresh_token":"r","scope":[{}],"expires_in":300})", "t", 295},
        {R"({"token":"a\/b\u00e4"})", "a/b\xc3\xa4", 55},
    };
    for (const auto& each : rows) {
        INFO(each.json);
        const token_answer answer = parse_token_answer(each.json, received);
        CHECK(answer.token().reveal() == each.token);
        CHECK(answer.expires() - received == seconds(each.good_for));
    }
}

TEST_CASE("a malformed answer of a token server is refused, and its token not shown")
{
    const std::string long_token(std::size_t{1} << 20, 'a');
    for (const std::string& json : {std::string(),
                                    std::string("<html>hunter2</html>"),
                                    std::string("[]"),
                                    std::string("{}"),
                                    std::string(R"({"token":"hunter2")"),
                                    std::string(R"({"token":"hunter2"} x)"),
                                    std::string(R"({"token":""})"),
                                    std::string(R"({"token":null})"),
                                    std::string(R"({"token":["hunter2"]})"),
                                    std::string(R"({"token":"hunter2","token":"hunter2"})"),
                                    std::string(R"({"token":"hunter2\n"})"),
                                    std::string(R"({"token":"hunter2\r"})"),
                                    std::string(R"({"token":"hunter2\u0000"})"),
                                    std::string(R"({"access_token":"hunter2\u007f"})"),
                                    std::string("{\"token\":\"hunter2\n\"}"),
                                    std::string(R"({"TOKEN":"hunter2"})"),
                                    R"({"token":")" + long_token + R"("})",
                                    R"({"token":"hunter2","x":)" + std::string(1000, '[') + std::string(1000, ']') + "}"}) {
        INFO(json.substr(0, 60));
        try {
            (void)parse_token_answer(json, {});
            FAIL("it was accepted");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::malformed_answer);
            CHECK(failure.at() == overmount::stage::source);
            CHECK(std::string(failure.what()).find("hunter2") == std::string::npos);
        }
    }
    // The whole answer may have 1 MiB.
    const std::string fits = R"({"token":")" + long_token.substr(12) + R"("})";
    REQUIRE(fits.size() == std::size_t{1} << 20);
    CHECK(parse_token_answer(fits, {}).token().reveal().size() == fits.size() - 12);
}

} // namespace
