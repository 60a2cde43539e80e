#include <overmount/registry/settings/proxy.hpp>

#include <overmount/core/error.hpp>

#include "support/catch.hpp"

#include <map>
#include <string>
#include <utility>

namespace {

using overmount::errc;
using overmount::registry_credentials;
using namespace overmount::registry;

environment variables(std::map<std::string, std::string> values)
{
    return [values](const std::string& name) {
        const auto found = values.find(name);
        return found != values.end() ? std::optional(found->second) : std::nullopt;
    };
}

// `scheme host port`, or `direct`.
std::string chosen(const std::string& target, std::map<std::string, std::string> values)
{
    const auto found = proxy_for(url::parse(target), variables(std::move(values)));
    return found ? found->scheme() + " " + found->host() + " " + std::to_string(found->port()) : "direct";
}

TEST_CASE("proxy: the scheme of the target chooses the variable")
{
    using map = std::map<std::string, std::string>;
    const std::tuple<std::string, map, std::string> rows[] = {
        {"https://a.test", {}, "direct"},
        {"https://a.test", {{"https_proxy", "http://p.test:3128"}}, "http p.test 3128"},
        {"https://a.test", {{"HTTPS_PROXY", "http://p.test:3128"}}, "http p.test 3128"},
        {"https://a.test", {{"https_proxy", "http://low.test"}, {"HTTPS_PROXY", "http://up.test"}}, "http low.test 80"},
        {"https://a.test", {{"https_proxy", ""}, {"HTTPS_PROXY", "http://up.test"}}, "http up.test 80"},
        {"https://a.test", {{"http_proxy", "http://p.test"}}, "direct"},
        {"http://a.test", {{"http_proxy", "http://p.test"}}, "http p.test 80"},
        {"http://a.test", {{"HTTP_PROXY", "http://p.test"}}, "http p.test 80"},
        {"http://a.test", {{"https_proxy", "http://p.test"}}, "direct"},
        {"http://a.test", {{"HTTP_PROXY", "http://p.test"}, {"REQUEST_METHOD", "GET"}}, "direct"},
        {"http://a.test", {{"http_proxy", "http://p.test"}, {"REQUEST_METHOD", "GET"}}, "http p.test 80"},
        {"https://a.test", {{"HTTPS_PROXY", "http://p.test"}, {"REQUEST_METHOD", "GET"}}, "http p.test 80"},
        // Forms of the value.
        {"https://a.test", {{"https_proxy", "p.test:3128"}}, "http p.test 3128"},
        {"https://a.test", {{"https_proxy", "https://p.test"}}, "https p.test 443"},
        {"https://a.test", {{"https_proxy", "http://p.test:8/path?q#f"}}, "http p.test 8"},
        {"https://a.test", {{"https_proxy", "http://[2001:db8::1]:8"}}, "http 2001:db8::1 8"},
        // Exclusions.
        {"https://a.test", {{"https_proxy", "p.test"}, {"no_proxy", "a.test"}}, "direct"},
        {"https://a.test", {{"https_proxy", "p.test"}, {"NO_PROXY", "a.test"}}, "direct"},
        {"https://a.test", {{"https_proxy", "p.test"}, {"no_proxy", "b.test"}, {"NO_PROXY", "a.test"}}, "http p.test 80"},
        {"https://a.test", {{"https_proxy", "socks5://p.test"}, {"no_proxy", "a.test"}}, "direct"},
        {"http://localhost:5000", {{"http_proxy", "p.test"}}, "direct"},
        {"https://127.0.0.2", {{"https_proxy", "p.test"}}, "direct"},
        {"https://[::1]", {{"https_proxy", "p.test"}}, "direct"},
    };
    for (const auto& [target, values, expected] : rows) {
        INFO(target << (values.empty() ? "" : " " + values.begin()->second));
        CHECK(chosen(target, values) == expected);
    }
    CHECK_FALSE(proxy_for(url::parse("https://a.test"), nullptr));
}

TEST_CASE("proxy: user and password of its URL are percent-decoded and not shown")
{
    const auto credentials = [](const std::string& user) {
        return proxy_for(url::parse("https://a.test"), variables({{"https_proxy", "http://" + user + "p.test"}}))->credentials();
    };
    CHECK_FALSE(credentials(""));
    CHECK(credentials("u:p@") == registry_credentials::password("u", "p"));
    CHECK(credentials("u%40x:p%3a%2F:y@") == registry_credentials::password("u@x", "p:/:y"));
    CHECK(credentials("u@") == registry_credentials::password("u", ""));
    CHECK(credentials("u:a@b@") == registry_credentials::password("u", "a@b"));
}

TEST_CASE("proxy: a malformed URL is refused by the name of its variable")
{
    for (const std::string value : {"socks5://SECRET", "http://", "http://u:SECRET@", "u:SECRET%@p.test", "u:SECRET%4@p.test",
                                    "u:SECRET%zz@p.test", "u:SECRET%0a@p.test", "http://u:SECRET@p.test:99999", "u:SECRET@p test",
                                    "u:SECRET%+1@p.test"}) {
        INFO(value);
        try {
            (void)chosen("http://a.test", {{"HTTP_PROXY", value}});
            FAIL("accepted");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::invalid_settings);
            CHECK(failure.operation() == "read HTTP_PROXY");
            CHECK(std::string(failure.what()).find("SECRET") == std::string::npos);
        }
    }
}

TEST_CASE("proxy: NO_PROXY has names, suffixes, addresses, networks, ports and *")
{
    const std::tuple<std::string, std::string, int, bool> rows[] = {
        {"", "a.test", 443, false},
        {"*", "a.test", 443, true},
        {"b.test,*", "10.0.0.1", 443, true},
        {"a.test", "a.test", 443, true},
        {"A.Test", "a.tEST", 443, true},
        {"a.test", "a.test.", 443, true},
        {"a.test", "x.a.test", 443, true},
        {"a.test", "xa.test", 443, false},
        {".a.test", "a.test", 443, false},
        {".a.test", "x.a.test", 443, true},
        {"*.a.test", "x.y.a.test", 443, true},
        {"*.a.test", "a.test", 443, false},
        {"x.*.test", "x.a.test", 443, false},
        {"a.test:443", "a.test", 443, true},
        {"a.test:443", "a.test", 5000, false},
        {".a.test:443", "x.a.test", 443, true},
        {".a.test:443", "x.a.test", 80, false},
        {"a.test:", "a.test", 443, false},
        {"a.test:x", "a.test", 443, false},
        {"b.test, a.test", "a.test", 443, true},
        {"b.test a.test", "a.test", 443, true},
        {"b.test,,\ta.test", "a.test", 443, true},
        {"10.0.0.1", "10.0.0.1", 443, true},
        {"10.0.0.1", "10.0.0.11", 443, false},
        {"0.0.1", "10.0.0.1", 443, false}, // no suffix of an address
        {"10.0.0.1:443", "10.0.0.1", 443, true},
        {"10.0.0.1:443", "10.0.0.1", 80, false},
        {"10.0.0.0/8", "10.1.2.3", 443, true},
        {"10.0.0.0/8", "11.1.2.3", 443, false},
        {"10.0.0.0/9", "10.128.0.0", 443, false},
        {"10.0.0.0/9", "10.127.0.0", 443, true},
        {"10.0.0.1/32", "10.0.0.1", 443, true},
        {"10.0.0.1/32", "10.0.0.2", 443, false},
        {"0.0.0.0/0", "1.2.3.4", 443, true},
        {"0.0.0.0/0", "2001:db8::1", 443, false},
        {"0.0.0.0/0", "a.test", 443, false},
        {"::/0", "2001:db8::1", 443, true},
        {"::/0", "1.2.3.4", 443, false},
        {"2001:db8::/32", "2001:db8:1::1", 443, true},
        {"2001:db8::/32", "2001:db9::1", 443, false},
        {"10.0.0.0/33", "10.0.0.0", 443, false},
        {"10.0.0.0/", "10.0.0.0", 443, false},
        {"10.0.0.0/8x", "10.0.0.0", 443, false},
        {"a.test/8", "a.test", 443, false},
        {"2001:db8::1", "2001:DB8:0::1", 443, true},
        {"[2001:db8::1]", "2001:db8::1", 443, true},
        {"[2001:db8::1]:443", "2001:db8::1", 443, true},
        {"[2001:db8::1]:443", "2001:db8::1", 80, false},
        {"2001:db8::1", "2001:db8::2", 443, false},
        {"::ffff:10.0.0.1", "10.0.0.1", 443, true},
        {".", "a.test", 443, false},
        {":443", "a.test", 443, false},
        {"[", "a.test", 443, false},
        {"[]", "a.test", 443, false},
        {"[:443", "a.test", 443, false},
        {"]:443", "a.test", 443, false},
    };
    for (const auto& [list, host, port, bypasses] : rows) {
        INFO(list << " " << host << " " << port);
        CHECK(bypasses_proxy(list, host, static_cast<std::uint16_t>(port)) == bypasses);
    }
}

} // namespace
