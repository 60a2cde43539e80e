#include <overmount/core/error.hpp>
#include <overmount/registry/redirect.hpp>

#include "support/catch.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <type_traits>

namespace {

using overmount::errc;
using overmount::registry::follow;
using overmount::registry::url;

static_assert(!std::is_aggregate_v<overmount::registry::redirect_decision>);

const std::string registry = "https://registry.example:5000/v2/a/blobs/x?ns=b";

overmount::error refusal(const std::string& from, const std::string& location, unsigned status = 307, unsigned already = 0)
{
    try {
        (void)follow(url::parse(from), status, location, already);
    } catch (const overmount::error& failure) {
        return failure;
    }
    return overmount::error(boost::system::error_code());
}

TEST_CASE("five statuses of an answer are redirects")
{
    const unsigned redirects[] = {301, 302, 303, 307, 308};
    for (unsigned status = 0; status < 1000; ++status) {
        INFO(status);
        const bool expected = std::find(std::begin(redirects), std::end(redirects), status) != std::end(redirects);
        CHECK(overmount::registry::is_redirect(status) == expected);
        if (expected)
            CHECK(follow(url::parse(registry), status, "/x", 0).target.string() == "https://registry.example:5000/x");
        else
            CHECK(refusal(registry, "/x", status).code() == errc::malformed_answer);
    }
}

TEST_CASE("ten redirects are followed, and no more")
{
    CHECK(follow(url::parse(registry), 302, "/x", 9).same_origin);
    CHECK(refusal(registry, "/x", 302, 10).code() == errc::redirect_refused);
    CHECK(refusal(registry, "/x", 302, 4000000000).code() == errc::redirect_refused);
}

TEST_CASE("credentials follow a redirect only to the same scheme, host and port")
{
    for (const std::string location : {"/x", "x", "?x", "//registry.example:5000/x", "https://REGISTRY.example:5000/x"}) {
        INFO(location);
        CHECK(follow(url::parse(registry), 307, location, 0).same_origin);
    }
    for (const std::string location :
         {"https://registry.example/x", "https://registry.example:443/x", "https://registry.example:5001/x", "//example:5000",
          "https://cdn.example:5000/x",
          "https://registry.example.evil:5000/x", "https://registry.example.:5000/x"}) {
        INFO(location);
        CHECK_FALSE(follow(url::parse(registry), 307, location, 0).same_origin);
    }
    CHECK_FALSE(follow(url::parse("http://a:5000"), 307, "https://a:5000", 0).same_origin);
    CHECK(follow(url::parse("https://a"), 307, "https://a:443/x", 0).same_origin);
}

TEST_CASE("path and query of a redirect stay byte for byte")
{
    const std::string link = "https://s3.example/a%2Bb/~c/../d?X-Amz-Signature=%2B%2f&empty=&flag";
    CHECK(follow(url::parse(registry), 307, link, 0).target.string() == link);
}

TEST_CASE("a redirect needs a location that is a URL")
{
    CHECK(refusal(registry, "").code() == errc::malformed_answer);
    CHECK(refusal(registry, "").subject() == "https://registry.example:5000/v2/a/blobs/x");
    for (const std::string location : {"https://", "https://user@a/", "/a b", "/\xc3\xa4", "/a\r\nX: y", "https:\\\\a", "//"}) {
        INFO(location);
        CHECK(refusal(registry, location).code() == errc::malformed_answer);
    }
}

TEST_CASE("a redirect leads to http or https, and not from https to http")
{
    for (const std::string location : {"ftp://a/", "file:///etc/passwd", "http://cdn.example/x",
                                       "http://registry.example:5000/x"}) {
        INFO(location);
        CHECK(refusal(registry, location).code() == errc::redirect_refused);
        CHECK(refusal(registry, location).at() == overmount::stage::source);
    }
    CHECK(refusal("https://localhost", "http://localhost/x").code() == errc::redirect_refused);
    CHECK(follow(url::parse("http://a"), 301, "http://b/x", 0).target.string() == "http://b/x");
    CHECK(follow(url::parse("http://a"), 301, "https://a/x", 0).target.string() == "https://a/x");
}

TEST_CASE("a public host may not redirect to a private address")
{
    for (const std::string host : {"127.0.0.1", "localhost", "x.localhost", "localhost.", "10.1.2.3:8080", "192.168.0.1",
                                   "169.254.169.254", "[::1]:80",
                                   "[fe80::1]", "[fd00::1]", "[::ffff:10.0.0.1]", "0.0.0.0", "100.64.0.1"}) {
        INFO(host);
        CHECK(refusal(registry, "https://" + host + "/x").code() == errc::redirect_refused);
        CHECK(refusal(registry, "//" + host + "/x").code() == errc::redirect_refused);
        CHECK(refusal("https://8.8.8.8/", "https://" + host + "/x").code() == errc::redirect_refused);
        for (const std::string from : {"https://127.0.0.1:5000", "https://localhost", "https://10.0.0.1", "https://[::1]",
                                       "https://192.168.3.4"})
            CHECK(follow(url::parse(from), 307, "https://" + host + "/x", 0).target.target() == "/x");
    }
    CHECK(follow(url::parse("https://10.0.0.1"), 307, "https://a/x", 0).target.host() == "a");
    CHECK(follow(url::parse(registry), 307, "https://8.8.8.8/x", 0).target.host() == "8.8.8.8");
}

TEST_CASE("a realm obeys the same rules as a redirect")
{
    using overmount::registry::require_safe_destination;
    const url from = url::parse("https://a");
    CHECK_NOTHROW(require_safe_destination(from, url::parse("https://b/token")));
    CHECK_THROWS_AS(require_safe_destination(from, url::parse("http://b/token")), overmount::error);
    CHECK_THROWS_AS(require_safe_destination(from, url::parse("https://10.0.0.1/token")), overmount::error);
}

TEST_CASE("a refused redirect does not show the query of the link")
{
    for (const std::string location : {"http://a/x?sig=secret", "https://10.0.0.1/x?sig=secret", "ftp://a/?secret",
                                       "/x?secret\n"}) {
        const auto failure = refusal("https://a/?ticket=secret", location);
        CHECK(failure.code());
        CHECK(std::string(failure.what()).find("secret") == std::string::npos);
    }
    CHECK(refusal("https://a", "http://b/x?sig=secret").subject() == "http://b/x");
    CHECK(std::string(refusal("https://a/?secret", "").what()).find("secret") == std::string::npos);
    CHECK(std::string(refusal("https://a/?secret", "/x", 200).what()).find("secret") == std::string::npos);
    CHECK(std::string(refusal("https://a/?secret", "/x", 302, 10).what()).find("secret") == std::string::npos);
}

TEST_CASE("a fresh link is wanted after 400, 401 and 403 of the other host")
{
    for (unsigned status = 0; status < 1000; ++status)
        CHECK(overmount::registry::wants_fresh_link(status) == (status == 400 || status == 401 || status == 403));
}

} // namespace
