#include <overmount/core/error.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/registry/endpoint.hpp>

#include "support/catch.hpp"
#include "support/error_of.hpp"

#include <string>

namespace {

using overmount::errc;
using overmount::registry::api_kind;
using overmount::registry::api_path;
using overmount::registry::registry_url;
using overmount::test::error_of;

TEST_CASE("docker.io is the registry at registry-1.docker.io")
{
    for (const std::string domain : {"docker.io", "index.docker.io", "registry-1.docker.io"}) {
        CHECK(registry_url(domain, false).string() == "https://registry-1.docker.io/");
        CHECK(registry_url(domain, true).string() == "http://registry-1.docker.io/");
    }
    CHECK(registry_url("hub.docker.io", false).host() == "hub.docker.io");
    CHECK(registry_url(overmount::reference::parse("busybox").domain(), false).host() == "registry-1.docker.io");
}

TEST_CASE("the URL of a registry has the host and port of the image's domain")
{
    const std::pair<std::string, std::string> rows[] = {
        {"a.example/x", "https://a.example/"},
        {"A.Example:5000/x", "https://a.example:5000/"},
        {"a.example:443/x", "https://a.example/"},
        {"127.0.0.1:80/x", "https://127.0.0.1:80/"},
        {"[::1]/x", "https://[::1]/"},
        {"[2001:DB8::1]:5000/x:tag@sha256:" + std::string(64, 'a'), "https://[2001:db8::1]:5000/"},
    };
    for (const auto& [image, root] : rows) {
        INFO(image);
        CHECK(registry_url(overmount::reference::parse(image).domain(), false).string() == root);
    }
    CHECK(registry_url("a:5000", true).string() == "http://a:5000/");
    CHECK(registry_url("a", true).port() == 80);
}

TEST_CASE("what is no domain of a registry is an invalid reference")
{
    for (const std::string domain : {"", "a/b", "a?b", "a#", "user:secret@a", "a b", "::1", "a:0", "a:99999", "[::1",
                                     "https://a", "127.1", "\xc3\xa4"}) {
        INFO(domain);
        const auto failure = error_of([&] { return registry_url(domain, false); });
        CHECK(failure.code() == errc::invalid_reference);
        CHECK(std::string(failure.what()).find("secret") == std::string::npos);
        CHECK(error_of([&] { return registry_url(domain, true); }).code() == errc::invalid_reference);
    }
    CHECK(error_of([] { return registry_url("a:0", false); }).subject() == "a:0");
}

TEST_CASE("each part of the API of a registry has its path")
{
    const std::string digest = "sha256:" + std::string(64, 'a'), longer = "sha512:" + std::string(128, 'b');
    CHECK(api_path("", api_kind::base) == "/v2/");
    CHECK(api_path("a/b", api_kind::base) == "/v2/");
    CHECK(api_path("library/busybox", api_kind::manifest, "1.36") == "/v2/library/busybox/manifests/1.36");
    CHECK(api_path("a", api_kind::manifest, "x") == "/v2/a/manifests/x");
    CHECK(api_path("a/b__c", api_kind::manifest, digest) == "/v2/a/b__c/manifests/" + digest);
    CHECK(api_path("a", api_kind::blob, digest) == "/v2/a/blobs/" + digest);
    CHECK(api_path("a", api_kind::blob, longer) == "/v2/a/blobs/" + longer);
    CHECK(api_path("a", api_kind::referrers, digest) == "/v2/a/referrers/" + digest);
    CHECK(api_path("a", api_kind::tags) == "/v2/a/tags/list");
}

TEST_CASE("repository, tag and digest are validated before they become a path")
{
    const std::string digest = "sha256:" + std::string(64, 'a');
    for (const std::string& repository :
         {std::string(), std::string("A"), std::string(".."), std::string("../x"), std::string("a/../b"), std::string("a//b"),
          std::string("/a"),
          std::string("a/"), std::string("a?b"), std::string("a#b"), std::string("a%2fb"), std::string("a b"),
          std::string("a:b"), "a@" + digest,
          std::string("a\n"), std::string(254, 'a')}) {
        INFO(repository);
        CHECK(error_of([&] { return api_path(repository, api_kind::tags); }).code() == errc::invalid_reference);
        CHECK(error_of([&] { return api_path(repository, api_kind::blob, digest); }).code() == errc::invalid_reference);
        CHECK(error_of([&] { return api_path(repository, api_kind::manifest, "x"); }).code() == errc::invalid_reference);
    }
    CHECK(api_path(std::string(253, 'a'), api_kind::tags).size() == 4 + 253 + 10);
    for (const std::string tag : {"", ".", "..", "-a", "a/b", "a?b", "a#b", "a b", "a%20", "a@b"}) {
        INFO(tag);
        CHECK(error_of([&] { return api_path("a", api_kind::manifest, tag); }).code() == errc::invalid_reference);
    }
    for (const std::string& text : {std::string(), std::string("latest"), std::string("sha256:"), std::string("sha256:../x"),
                                    digest + "a",
                                    digest + "?x", "md5:" + std::string(32, 'a')}) {
        INFO(text);
        CHECK(error_of([&] { return api_path("a", api_kind::blob, text); }).code() == errc::invalid_digest);
        CHECK(error_of([&] { return api_path("a", api_kind::referrers, text); }).code() == errc::invalid_digest);
    }
    CHECK(error_of([&] { return api_path("a", api_kind::manifest, digest + "a"); }).code() == errc::invalid_digest);
}

} // namespace
