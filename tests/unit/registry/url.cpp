#include <overmount/core/error.hpp>
#include <overmount/registry/url.hpp>

#include "support/catch.hpp"
#include "support/error_of.hpp"

#include <concepts>
#include <set>
#include <string>
#include <utility>

namespace {

using overmount::errc;
using overmount::registry::url;
using overmount::test::error_of;

static_assert(std::regular<url> && std::three_way_comparable<url>);

overmount::error parse_error(const std::string& text)
{
    return error_of([&] { return url::parse(text); });
}

TEST_CASE("a URL has a scheme, a host, a port and a target")
{
    const url value = url::parse("HTTPS://Example.ORG:5000/V2/A?B=C");
    CHECK(value.scheme() == "https");
    CHECK(value.is_https());
    CHECK(value.host() == "example.org");
    CHECK(value.port() == 5000);
    CHECK(value.target() == "/V2/A?B=C");
    CHECK(value.string() == "https://example.org:5000/V2/A?B=C");
    CHECK(value.origin() == "https://example.org:5000");
    CHECK(value.authority() == "example.org:5000");
    CHECK_FALSE(url::parse("http://a").is_https());
}

TEST_CASE("a default port of a URL is known, and not printed")
{
    CHECK(url::parse("https://a").port() == 443);
    CHECK(url::parse("http://a").port() == 80);
    const std::pair<std::string, std::string> rows[] = {
        {"https://a", "https://a"},          {"https://a:443", "https://a"},   {"https://a:80", "https://a:80"},
        {"http://a:80", "http://a"},         {"http://a:443", "http://a:443"}, {"http://a:", "http://a"},
        {"https://a:65535", "https://a:65535"}, {"https://a:00443", "https://a"}, {"https://[::1]:443", "https://[::1]"},
    };
    for (const auto& [text, origin] : rows) {
        INFO(text);
        CHECK(url::parse(text).origin() == origin);
        CHECK(url::parse(text).string() == origin + "/");
    }
}

TEST_CASE("path and query of a URL stay byte for byte")
{
    for (const std::string target :
         {"/", "//", "/a%2Bb+c", "/%2f%2F/%7E~", "/?", "/a?b=&c&=d&&e", "/a/../b/./c//d", "/a?b=/../c?d", "/;:@!$'()*,",
          "/%zz\"<>^`{|}[]",
          "/a?X-Amz-Signature=%2B/=&sig=a%3D"}) {
        INFO(target);
        CHECK(url::parse("https://a" + target).target() == target);
        CHECK(url::parse("https://a:1" + target).string() == "https://a:1" + target);
    }
}

TEST_CASE("a URL without a path has the path /, and no URL has a fragment")
{
    CHECK(url::parse("https://a").target() == "/");
    CHECK(url::parse("https://a?b").target() == "/?b");
    CHECK(url::parse("https://a#b").target() == "/");
    CHECK(url::parse("https://a/b?c#d?e/f#").target() == "/b?c");
}

TEST_CASE("an IPv6 address of a URL has brackets only where it is printed")
{
    const url value = url::parse("http://[2001:DB8::1]:5000/x");
    CHECK(value.host() == "2001:db8::1");
    CHECK(value.bracketed_host() == "[2001:db8::1]");
    CHECK(value.origin() == "http://[2001:db8::1]:5000");
    CHECK(url::parse(value.string()) == value);
    CHECK(url::parse("http://[::ffff:1.2.3.4]").host() == "::ffff:1.2.3.4");
    CHECK(url::parse("http://a.b").bracketed_host() == "a.b");
}

TEST_CASE("hosts of a URL are names or addresses")
{
    for (const std::string host : {"a", "a.b", "a.b.", "x_y.a-b", "1.2.3.4", "4.a", "0x1.a", "1a", "xn--a", "a.0xg"}) {
        INFO(host);
        CHECK(url::parse("https://" + host + ":1").host() == host);
    }
    for (const std::string host :
         {"", ".", "..", "a..b", ".a", "a..", "a%20b", "a%", "a,b", "a*", "[", "[]", "[::1", "::1", "[::1]x", "[::g]",
          "[1.2.3.4]", "[fe80::1%25eth0]",
          "[::1]]", "a]", "a[", "1", "127.1", "2130706433", "0x7f000001", "0X7F.1", "0x", "0177.0.0.1", "127.0.0.01",
          "1.2.3.4.", "1.2.3.256", "1.2.3.4.5",
          "a.1"}) {
        INFO(host);
        CHECK(parse_error("https://" + host).code() == errc::malformed_answer);
        CHECK(parse_error("https://" + host + "/x").code() == errc::malformed_answer);
    }
    CHECK(url::parse("https://" + std::string(255, 'a')).host().size() == 255);
    CHECK(parse_error("https://" + std::string(256, 'a')).code() == errc::malformed_answer);
}

TEST_CASE("ports of a URL are numbers from 1 to 65535")
{
    for (const std::string port : {"0", "65536", "99999999999999999999", "-1", "+1", "8o", "1:2", "0x50", "1.", ":"}) {
        INFO(port);
        CHECK(parse_error("https://a:" + port).code() == errc::malformed_answer);
        CHECK(parse_error("https://[::1]:" + port + "/").code() == errc::malformed_answer);
    }
}

TEST_CASE("only http and https URLs are followed")
{
    for (const std::string text : {"ftp://a/b", "file:///etc/passwd", "javascript:x", "httpsx://a", "http+unix://a", "a:5000/b",
                                   "data:,x"}) {
        INFO(text);
        CHECK(parse_error(text).code() == errc::redirect_refused);
        CHECK(parse_error(text).at() == overmount::stage::source);
    }
}

TEST_CASE("what is no absolute URL is refused")
{
    for (const std::string text : {"", "a", "/a", "//a", "://a", "1http://a", "+http://a", "http", "http:", "http:/a", "http:a",
                                   "https:///a", "https://",
                                   "https://?a", "https://#a", "https://user@a/", "https://u:p@a/", "https://@a",
                                   "https://a@b@c"}) {
        INFO(text);
        CHECK(parse_error(text).code() == errc::malformed_answer);
    }
}

TEST_CASE("bytes that a URL must encode are refused in each of its parts")
{
    const url base = url::parse("https://a/b");
    for (int byte = 0; byte < 256; ++byte) {
        const std::string c(1, static_cast<char>(byte));
        INFO(byte);
        const bool bad = byte <= 0x20 || byte >= 0x7f || byte == '\\';
        for (const std::string& text : {"/x" + c, "/x?y" + c, "/x?y#" + c, "z" + c, "?y" + c})
            CHECK((error_of([&] { return base.resolve(text); }).code() == errc::malformed_answer) == bad);
        CHECK((parse_error("https://a/#" + c).code() == errc::malformed_answer) == bad);
        if (bad) {
            CHECK(parse_error(c + "https://a/").code() == errc::malformed_answer);
            CHECK(parse_error("https://a" + c + "/").code() == errc::malformed_answer);
            CHECK(error_of([&] { return base.with_target("/" + c); }).code() == errc::malformed_answer);
            CHECK(error_of([&] { return base.with_query(c); }).code() == errc::malformed_answer);
        }
    }
}

TEST_CASE("a URL has at most 16 KiB")
{
    const std::string origin = "https://a";
    const std::string longest = "/" + std::string(overmount::registry::max_url_bytes - origin.size() - 1, 'x');
    CHECK(url::parse(origin + longest).string().size() == 16 * 1024);
    CHECK(parse_error(origin + longest + "x").code() == errc::malformed_answer);
    CHECK(parse_error(origin + "/#" + longest).code() == errc::malformed_answer);
    // With the path that was missing it is too long.
    CHECK(parse_error(origin + "?" + longest.substr(1)).code() == errc::malformed_answer);
    const url base = url::parse("https://a");
    CHECK(base.resolve(longest).target() == longest);
    CHECK(error_of([&] { return base.resolve(longest + "x"); }).code() == errc::malformed_answer);
    CHECK(error_of([&] { return base.resolve(std::string(16 * 1024 + 1, '#')); }).code() == errc::malformed_answer);
    CHECK(error_of([&] { return base.with_target(longest + "x"); }).code() == errc::malformed_answer);
    CHECK(error_of([&] { return base.with_query(longest); }).code() == errc::malformed_answer);
}

TEST_CASE("an error about a URL shows neither a query nor user information")
{
    CHECK(parse_error("https://a:0/b?secret").subject() == "https://a:0/b");
    CHECK(parse_error("ftp://a/b#secret").subject() == "ftp://a/b");
    for (const std::string text : {"https://user:secret@a/", "https://user:se?cret@a", "https://a:0/?secret",
                                   "https://a/?secret \n", "ftp://u:secret@a/",
                                   "secret@", "?secret", "#secret"}) {
        INFO(text);
        CHECK(parse_error(text).code());
        CHECK(std::string(parse_error(text).what()).find("cret") == std::string::npos);
    }
    const url base = url::parse("https://a/b?secret");
    CHECK(std::string(error_of([&] { return base.with_query("\n"); }).what()).find("secret") == std::string::npos);
    CHECK(base.without_query() == "https://a/b");
    CHECK(url::parse("https://a:1/b?c?d").without_query() == "https://a:1/b");
    CHECK(url::parse("https://a").without_query() == "https://a/");
}

// RFC 3986, section 5.4, but for the absolute paths: they stay as they are.
TEST_CASE("a relative URL is resolved against its base")
{
    const url base = url::parse("http://a/b/c/d;p?q");
    const std::pair<std::string, std::string> rows[] = {
        {"g", "http://a/b/c/g"},
        {"./g", "http://a/b/c/g"},
        {"g/", "http://a/b/c/g/"},
        {"/g", "http://a/g"},
        {"//g", "http://g/"},
        {"?y", "http://a/b/c/d;p?y"},
        {"g?y", "http://a/b/c/g?y"},
        {"#s", "http://a/b/c/d;p?q"},
        {"g#s", "http://a/b/c/g"},
        {"g?y#s", "http://a/b/c/g?y"},
        {";x", "http://a/b/c/;x"},
        {"g;x?y#s", "http://a/b/c/g;x?y"},
        {"", "http://a/b/c/d;p?q"},
        {".", "http://a/b/c/"},
        {"./", "http://a/b/c/"},
        {"..", "http://a/b/"},
        {"../", "http://a/b/"},
        {"../g", "http://a/b/g"},
        {"../..", "http://a/"},
        {"../../", "http://a/"},
        {"../../g", "http://a/g"},
        {"../../../g", "http://a/g"},
        {"../../../../g", "http://a/g"},
        {"g.", "http://a/b/c/g."},
        {".g", "http://a/b/c/.g"},
        {"g..", "http://a/b/c/g.."},
        {"..g", "http://a/b/c/..g"},
        {"./../g", "http://a/b/g"},
        {"./g/.", "http://a/b/c/g/"},
        {"g/./h", "http://a/b/c/g/h"},
        {"g/../h", "http://a/b/c/h"},
        {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
        {"g;x=1/../y", "http://a/b/c/y"},
        {"g?y/./x", "http://a/b/c/g?y/./x"},
        {"g?y/../x", "http://a/b/c/g?y/../x"},
        {"g#s/../x", "http://a/b/c/g"},
        // Byte for byte.
        {"/./g", "http://a/./g"},
        {"/../g?", "http://a/../g?"},
        {"/a%2Bb?c=&d", "http://a/a%2Bb?c=&d"},
        {"g//../h%2e%2E", "http://a/b/c/g/h%2e%2E"},
        {"?", "http://a/b/c/d;p?"},
        {"%2e%2e/g", "http://a/b/c/%2e%2e/g"},
        // Absolute, or of the scheme of the base.
        {"https://B:5/c", "https://b:5/c"},
        {"HTTP://a", "http://a/"},
        {"//h:5000/x?y", "http://h:5000/x?y"},
        {"//[::1]", "http://[::1]/"},
        {"1:2", "http://a/b/c/1:2"},
        {"./g:h", "http://a/b/c/g:h"},
    };
    for (const auto& [reference, absolute] : rows) {
        INFO(reference);
        CHECK(base.resolve(reference).string() == absolute);
    }
    CHECK(url::parse("https://a:1").resolve("g").string() == "https://a:1/g");
    CHECK(url::parse("https://a:1").resolve("//b").string() == "https://b/");
    CHECK(url::parse("https://a?b/c").resolve("g").string() == "https://a/g");
    CHECK(url::parse("https://a/x/../y/z").resolve("g").string() == "https://a/y/g");
    CHECK(url::parse("https://a/x/../y").resolve("?g").string() == "https://a/x/../y?g");
}

TEST_CASE("a reference to no URL is refused")
{
    const url base = url::parse("https://a/b");
    for (const std::string text : {"///x", "//", "//u@h", "//h:0", "https:x", "https:", "http:///"}) {
        INFO(text);
        CHECK(error_of([&] { return base.resolve(text); }).code() == errc::malformed_answer);
    }
    for (const std::string text : {"ftp://a", "g:h", "mailto:x"}) {
        INFO(text);
        CHECK(error_of([&] { return base.resolve(text); }).code() == errc::redirect_refused);
    }
}

TEST_CASE("an origin is a scheme, a host and a port")
{
    const url base = url::parse("https://a.b/c?d");
    for (const std::string text : {"https://a.b", "https://A.B:443/x"})
        CHECK(base.same_origin(url::parse(text)));
    for (const std::string text : {"http://a.b", "http://a.b:443", "https://a.b:444", "https://b", "https://x.a.b",
                                   "https://a.b.", "https://a.bc"})
        CHECK_FALSE(base.same_origin(url::parse(text)));
}

TEST_CASE("URLs are compared by all of their parts")
{
    std::set<url> all;
    for (const std::string text : {"https://a", "http://a", "http://a:443", "https://b", "https://a:1", "https://a/b",
                                   "https://a/?", "https://a/b?c"})
        CHECK(all.insert(url::parse(text)).second);
    CHECK(url::parse("https://a") == url::parse("HTTPS://A:443/#x"));
    CHECK(url() == url());
    CHECK(url() != url::parse("https://a"));
}

TEST_CASE("a query is appended to that of a URL")
{
    CHECK(url::parse("https://a/b").with_query("c=d").target() == "/b?c=d");
    CHECK(url::parse("https://a/b?_state=%2B~&e=").with_query("digest=x").target() == "/b?_state=%2B~&e=&digest=x");
    CHECK(error_of([] { return url::parse("https://a").with_query("b#c"); }).code() == errc::malformed_answer);
}

TEST_CASE("the target of a URL is replaced as a whole")
{
    const url base = url::parse("https://a:1/b?c");
    CHECK(base.with_target("/v2/?x=%2b").string() == "https://a:1/v2/?x=%2b");
    for (const std::string target : {"", "v2", "?x", "/a#b", "/a b", "https://b"}) {
        INFO(target);
        CHECK(error_of([&] { return base.with_target(target); }).code() == errc::malformed_answer);
    }
}

TEST_CASE("a value of a query is percent-encoded except for unreserved characters")
{
    const std::string unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    CHECK(overmount::registry::percent_encode(unreserved) == unreserved);
    CHECK(overmount::registry::percent_encode("repository:a/b:pull,push") == "repository%3Aa%2Fb%3Apull%2Cpush");
    CHECK(overmount::registry::percent_encode(std::string("\0 +%&=\xff", 7)) == "%00%20%2B%25%26%3D%FF");
    CHECK(overmount::registry::percent_encode("").empty());
}

TEST_CASE("loopback is a name or an address of this machine")
{
    using overmount::registry::is_loopback;
    for (const std::string host : {"localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1", "127.255.0.3", "::1",
                                   "0:0:0:0:0:0:0:1",
                                   "::ffff:127.0.0.1", "::ffff:7f00:1"}) {
        INFO(host);
        CHECK(is_loopback(host));
    }
    for (const std::string host : {"", ".", "localhost.a", "alocalhost", "128.0.0.1", "126.255.255.255", "::2", "::", "0.0.0.0",
                                   "10.0.0.1", "127.1", "127.a",
                                   "127.0.0.1.a", "[::1]", "a"}) {
        INFO(host);
        CHECK_FALSE(is_loopback(host));
    }
    CHECK_FALSE(is_loopback(std::string("127.0.0.1\0a", 11)));
}

TEST_CASE("private addresses are told from public ones at the bounds of each network")
{
    using overmount::registry::is_private_address;
    for (const std::string address :
         {"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.0",
          "127.255.255.255", "169.254.0.0",
          "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255", "::", "::1",
          "::127.0.0.1", "fc00::",
          "fd00:ec2::254", "fdff:ffff::", "fe80::1", "febf:ffff::", "FE80::1", "fe80::1%eth0", "fe80::1%2", "::ffff:10.0.0.1",
          "::ffff:a9fe:a9fe",
          "::FFFF:127.0.0.1"}) {
        INFO(address);
        CHECK(is_private_address(address));
    }
    for (const std::string address :
         {"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
          "169.253.255.255", "169.255.0.0",
          "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "255.255.255.255", "::1:0:0", "fbff:ffff::",
          "fe00::", "fe7f:ffff::",
          "fec0::", "2001:db8::1", "::ffff:8.8.8.8", "::fffe:10.0.0.1", "", "a", "abcd", "10", "10.1", "localhost",
          "10.0.0.1.a", "[::1]"}) {
        INFO(address);
        CHECK_FALSE(is_private_address(address));
    }
}

} // namespace
