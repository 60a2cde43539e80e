#include <overmount/registry/challenge.hpp>

#include <overmount/core/error.hpp>

#include "support/catch.hpp"

#include <string>
#include <type_traits>
#include <vector>

namespace {

using overmount::errc;
using overmount::registry::challenge;
using overmount::registry::choose_challenge;
using overmount::registry::parse_challenges;
using overmount::registry::realm_url;
using overmount::registry::url;

static_assert(!std::is_aggregate_v<challenge>);

// `scheme|realm|service|scope|error`, one line for each.
std::string text_of(const std::vector<challenge>& all)
{
    std::string out;
    for (const challenge& each : all) {
        out += out.empty() ? "" : "\n";
        out += each.scheme + "|" + each.realm + "|" + each.service + "|" + each.scope + "|" + each.error;
    }
    return out;
}

challenge make(const std::string& scheme, const std::string& realm = {})
{
    challenge out;
    out.scheme = scheme;
    out.realm = realm;
    return out;
}

struct row
{
    const char* what;
    std::vector<std::string> values;
    const char* expected;
};

TEST_CASE("challenges of a registry are read in every form that servers write")
{
    const row rows[] = {
        {"the Hub's",
         {R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull")"},
         "bearer|https://auth.docker.io/token|registry.docker.io|repository:library/busybox:pull|"},
        {"quoted commas", {R"(Bearer realm="https://a/t",scope="repository:a:pull,push",service="s")"},
         "bearer|https://a/t|s|repository:a:pull,push|"},
        {"the error", {R"(Bearer realm="r",error="invalid_token")"}, "bearer|r|||invalid_token"},
        {"any case", {R"(BEARER Realm="r",SERVICE="S",Scope="x")"}, "bearer|r|S|x|"},
        {"no scope: Artifactory", {R"(Bearer realm="r",service="s")"}, "bearer|r|s||"},
        {"no service", {R"(Bearer realm="r",scope="x")"}, "bearer|r||x|"},
        {"several headers", {R"(Bearer realm="r")", R"(Basic realm="b")"}, "bearer|r|||\nbasic|b|||"},
        {"several challenges in a header", {R"(Basic realm="b", Bearer realm="r",service="s")"}, "basic|b|||\nbearer|r|s||"},
        {"unquoted values", {"Bearer realm=https://a/t?x=1,service=s scope=repository:a:pull"},
         "bearer|https://a/t?x=1|s|repository:a:pull|"},
        {"escapes", {R"(Basic realm="a \"b\", \\c")"}, R"(basic|a "b", \c|||)"},
        {"a scheme without parameters", {R"(Negotiate, Basic realm="b")"}, "negotiate||||\nbasic|b|||"},
        {"token68", {R"(Negotiate oYH/aA+==, Basic realm="b")"}, "negotiate||||\nbasic|b|||"},
        {"token68 at the end", {R"(Basic realm="b", NTLM TlRM)"}, "basic|b|||\nntlm||||"},
        {"white space", {"\t Bearer  realm = \"r\" \t,\tservice= s ,scope =\"x\"  "}, "bearer|r|s|x|"},
        {"empty elements", {R"(,, Bearer realm="r",, service="s",)"}, "bearer|r|s||"},
        {"no comma", {R"(Bearer realm="r" service="s"scope="x")"}, "bearer|r|s|x|"},
        {"a comma after the scheme", {R"(Bearer, realm="r")"}, "bearer|r|||"},
        {"other parameters", {R"(Basic charset="UTF-8", realm="b", x=y)"}, "basic|b|||"},
        {"empty values", {R"(Bearer realm="r",service="",scope=)"}, "bearer|r|||"},
        {"the first counts", {R"(Bearer realm="r",realm="q")"}, "bearer|r|||"},
        {"a value with bytes of UTF-8", {"Basic realm=\"\xc3\xa4\""}, "basic|\xc3\xa4|||"},
    };
    for (const row& each : rows) {
        INFO(each.what);
        CHECK(text_of(parse_challenges(each.values)) == each.expected);
    }
}

TEST_CASE("garbage in the challenges of a registry is skipped")
{
    const row rows[] = {
        {"nothing", {}, ""},
        {"empty", {"", " ", ",", "\t,"}, ""},
        {"no scheme", {R"(realm="r")"}, ""},
        {"parameters of one header do not belong to the last", {R"(Bearer service="s")", R"(realm="r")"}, "bearer||s||"},
        {"a string without an end", {R"(Bearer service="s",realm="r)", "Basic realm=\"b\""}, "bearer||s||\nbasic|b|||"},
        {"an escape at the end", {"Bearer realm=\"r\\"}, "bearer||||"},
        {"control characters", {"Bearer realm=\"a" + std::string(1, '\0') + "b\",service=\"a\nb\",scope=x\ry,error=e"},
         "bearer||||e"},
        {"not a token", {R"(=x, a/b, "Basic realm=q", {"a": "b,c"}, Bearer realm="r")"}, "bearer|r|||"},
        {"bytes", {"\xff" + std::string(1, '\0') + "\x80, Bearer realm=r"}, "bearer|r|||"},
    };
    for (const row& each : rows) {
        INFO(each.what);
        CHECK(text_of(parse_challenges(each.values)) == each.expected);
    }
}

TEST_CASE("challenges of a registry are bounded in number and length")
{
    std::string many;
    for (int i = 0; i < 20; ++i)
        many += "a" + std::to_string(i) + ", ";
    many += R"(realm="r")";
    const auto found = parse_challenges({many, R"(Basic realm="b")"});
    REQUIRE(found.size() == 16);
    CHECK(found.back() == make("a15")); // the realm is that of another

    const std::string realm(16 * 1024 - 14, 'a');
    CHECK(parse_challenges({"Basic realm=\"" + realm + "\""}).at(0).realm == realm);
    CHECK(parse_challenges({"Basic realm=\"" + realm + "a\""}).empty());
}

TEST_CASE("only a challenge that can be answered is chosen")
{
    const challenge bearer = make("bearer", "r"), other_bearer = make("bearer", "q"), basic = make("basic", "b");
    struct
    {
        std::vector<challenge> offered;
        bool have_credentials;
        std::optional<challenge> expected;
    } const rows[] = {
        {{}, true, std::nullopt},
        {{basic}, true, basic},
        {{make("basic")}, true, make("basic")},
        {{basic}, false, std::nullopt},
        {{basic, bearer}, false, bearer},
        {{basic, bearer}, true, bearer},
        {{bearer, basic}, true, bearer},
        {{bearer, other_bearer}, true, bearer},
        {{make("bearer"), basic}, true, basic},
        {{make("bearer")}, false, std::nullopt},
        {{make("negotiate", "n"), make("digest", "d")}, true, std::nullopt},
    };
    for (const auto& each : rows) {
        INFO(text_of(each.offered) << (each.have_credentials ? " with credentials" : ""));
        CHECK(choose_challenge(each.offered, each.have_credentials) == each.expected);
    }
}

TEST_CASE("the realm of a registry may be relative, and have a query")
{
    const std::pair<const char*, const char*> rows[] = {
        {"https://auth.example.com/token", "https://auth.example.com/token"},
        {"https://auth.example.com/token?a=%2B&b=", "https://auth.example.com/token?a=%2B&b="},
        {"/token", "https://reg.example.com:5000/token"},
        {"token?x=1", "https://reg.example.com:5000/v2/token?x=1"},
        {"//auth.example.com/t", "https://auth.example.com/t"},
    };
    const url registry = url::parse("https://reg.example.com:5000/v2/");
    for (const auto& [realm, expected] : rows) {
        INFO(realm);
        CHECK(realm_url(registry, make("bearer", realm)).string() == expected);
    }
}

TEST_CASE("a registry's realm that leads to a worse place is refused")
{
    struct
    {
        const char *registry, *realm;
        bool allowed;
    } const rows[] = {
        {"https://reg.example.com/v2/", "http://reg.example.com/token", false},
        {"http://reg.example.com/v2/", "http://auth.example.com/token", true},
        {"http://reg.example.com/v2/", "https://auth.example.com/token", true},
        {"https://reg.example.com/v2/", "ftp://auth.example.com/token", false},
        {"https://reg.example.com/v2/", "file:///etc/passwd", false},
        {"https://reg.example.com/v2/", "https://10.0.0.1/token", false},
        {"https://reg.example.com/v2/", "https://169.254.169.254/token", false},
        {"https://reg.example.com/v2/", "https://[fd00::1]/token", false},
        {"https://reg.example.com/v2/", "https://127.0.0.1/token", false},
        {"https://reg.example.com/v2/", "https://[::1]/token", false},
        {"https://reg.example.com/v2/", "https://localhost/token", false},
        {"https://10.0.0.2/v2/", "https://10.0.0.1/token", true},
        {"http://localhost:5000/v2/", "http://127.0.0.1:5001/token", true},
    };
    for (const auto& each : rows) {
        INFO(each.registry << " " << each.realm);
        overmount::errc code{};
        try {
            (void)realm_url(url::parse(each.registry), make("bearer", each.realm));
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::redirect_refused);
            code = errc::redirect_refused;
        }
        CHECK((code == errc{}) == each.allowed);
    }
}

TEST_CASE("a registry's realm that is no URL is refused")
{
    for (const char* realm : {"https://", "https://user:hunter2@auth.example.com/", "https://a b/", "https://a.example:99999/"}) {
        INFO(realm);
        try {
            (void)realm_url(url::parse("https://reg.example.com/v2/"), make("bearer", realm));
            FAIL("it was accepted");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::malformed_answer);
            CHECK(std::string(failure.what()).find("hunter2") == std::string::npos);
        }
    }
}

} // namespace
