#include <overmount/oci/reference.hpp>

#include "support/catch.hpp"

#include <string>

namespace {

using overmount::errc;
using overmount::reference;

const std::string hex(64, 'a');

bool refused(const std::string& text)
{
    try {
        (void)reference::parse(text);
    } catch (const overmount::error& failure) {
        return failure.code() == errc::invalid_reference && failure.subject() == text;
    }
    return false;
}

TEST_CASE("a short name is in the library of docker.io")
{
    const reference value = reference::parse("busybox");
    CHECK(value.domain() == "docker.io");
    CHECK(value.path() == "library/busybox");
    CHECK_FALSE(value.tag());
    CHECK_FALSE(value.digest());
    CHECK(value.string() == "docker.io/library/busybox");
}

TEST_CASE("each form of a name has one canonical form")
{
    const std::pair<std::string, std::string> rows[] = {
        {"busybox:1.36", "docker.io/library/busybox:1.36"},
        {"user/app", "docker.io/user/app"},
        {"docker.io/busybox", "docker.io/library/busybox"},
        {"index.docker.io/busybox", "docker.io/library/busybox"},
        {"index.docker.io/user/app", "docker.io/user/app"},
        {"localhost/app", "localhost/app"},
        {"localhost:5000/app:v1", "localhost:5000/app:v1"},
        {"localhost:5000", "docker.io/library/localhost:5000"},
        {"registry.example.com/a/b/c", "registry.example.com/a/b/c"},
        {"Registry/app", "Registry/app"},
        {"127.0.0.1:80/a", "127.0.0.1:80/a"},
        {"[::1]/a", "[::1]/a"},
        {"[2001:db8::1]:5000/a:t", "[2001:db8::1]:5000/a:t"},
        {"a__b/c--d.e_f", "docker.io/a__b/c--d.e_f"},
        {"x:_T.-", "docker.io/library/x:_T.-"},
        {"x@sha256:" + hex, "docker.io/library/x@sha256:" + hex},
        {"x:1@sha256:" + hex, "docker.io/library/x:1@sha256:" + hex},
        {"user/" + hex, "docker.io/user/" + hex},
    };
    for (const auto& [text, canonical] : rows) {
        INFO(text);
        const reference value = reference::parse(text);
        CHECK(value.string() == canonical);
        CHECK(reference::parse(canonical) == value);
    }
}

TEST_CASE("a name may have a tag and a digest")
{
    const reference value = reference::parse("x:1@sha256:" + hex);
    CHECK(value.tag() == "1");
    CHECK(value.digest()->string() == "sha256:" + hex);
}

TEST_CASE("names outside the grammar are refused")
{
    for (const std::string& text : {std::string(),
                                    std::string("Busybox"),
                                    std::string("user/App"),
                                    std::string("/a"),
                                    std::string("a/"),
                                    std::string("a//b"),
                                    std::string(".a"),
                                    std::string("a."),
                                    std::string("-a"),
                                    std::string("a-"),
                                    std::string("a..b"),
                                    std::string("a___b"),
                                    std::string("a._b"),
                                    std::string("a/_b"),
                                    std::string("a b"),
                                    std::string("a\n"),
                                    std::string("a\0b", 3),
                                    std::string("\xc3\xa4"),
                                    std::string("docker.io/"),
                                    std::string("-x.com/a"),
                                    std::string("x-.com/a"),
                                    std::string("x..com/a"),
                                    std::string(".com/a"),
                                    std::string("x.com:/a"),
                                    std::string("x.com:8o/a"),
                                    std::string("x.com:1:2/a"),
                                    std::string("[::1/a"),
                                    std::string("[]/a:1"),
                                    std::string("[::g]/a"),
                                    std::string("[::1]x/a"),
                                    std::string("::1/a"),
                                    hex}) {
        INFO(text);
        CHECK(refused(text));
    }
}

TEST_CASE("tags outside the grammar are refused")
{
    for (const std::string& tag : {std::string(), std::string(".a"), std::string("-a"), std::string("a b"),
                                   std::string("a+b"), std::string("\xc3\xa4"), std::string(129, 'a')}) {
        INFO(tag);
        CHECK(refused("x:" + tag));
    }
    CHECK(reference::parse("x:" + std::string(128, 'a')).tag()->size() == 128);
}

TEST_CASE("malformed digests are refused")
{
    for (const std::string& tail :
         {std::string("@"), std::string("@sha256:abc"), "@sha256:" + std::string(64, 'A'),
          "@sha256:" + hex + "@sha256:" + hex, "@sha256:" + hex + ":tag"}) {
        INFO(tail);
        CHECK(refused("x" + tail));
    }
}

TEST_CASE("a name has at most 255 characters")
{
    CHECK(refused("x.io/" + std::string(256, 'a')));
    CHECK(reference::parse("x.io/" + std::string(250, 'a')).path().size() == 250);
}

TEST_CASE("the default tag is added only without tag and digest")
{
    CHECK(reference::parse("x").with_default_tag().tag() == "latest");
    CHECK(reference::parse("x:1").with_default_tag().tag() == "1");
    CHECK_FALSE(reference::parse("x@sha256:" + hex).with_default_tag().tag());
}

TEST_CASE("the familiar form is as short as possible, and parses to the same reference")
{
    const std::pair<std::string, std::string> rows[] = {
        {"docker.io/library/busybox:1.36", "busybox:1.36"},
        {"index.docker.io/library/busybox", "busybox"},
        {"docker.io/user/app:1", "user/app:1"},
        {"docker.io/library/a/b", "library/a/b"},
        {"docker.io/library/library", "library"},
        {"docker.io/library/x:1@sha256:" + hex, "x:1@sha256:" + hex},
        {"example.org/library/x:1", "example.org/library/x:1"},
        {"localhost/app", "localhost/app"},
        // A name that would be read differently without its domain keeps it.
        {"docker.io/localhost/app", "docker.io/localhost/app"},
        {"docker.io/a.b/c", "docker.io/a.b/c"},
        {"docker.io/library/localhost", "localhost"},
        {"docker.io/library/a.b:1", "a.b:1"},
        {"docker.io/library/" + hex, "library/" + hex},
        {"docker.io/library/" + hex + ":1", hex + ":1"},
    };
    for (const auto& [text, familiar] : rows) {
        INFO(text);
        const reference value = reference::parse(text);
        CHECK(value.familiar() == familiar);
        CHECK(reference::parse(familiar) == value);
    }
}

TEST_CASE("64 hex digits are an image ID, but with a tag or domain they are a name")
{
    CHECK(refused(hex));
    CHECK(reference::parse(hex + ":1").string() == "docker.io/library/" + hex + ":1");
    CHECK(reference::parse(hex + "@sha256:" + hex).path() == "library/" + hex);
    CHECK(reference::parse("docker.io/" + hex).path() == "library/" + hex);
    CHECK(reference::parse(std::string(64, 'g')).path() == "library/" + std::string(64, 'g'));
}

} // namespace
