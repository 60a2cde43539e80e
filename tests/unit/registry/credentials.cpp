#include <overmount/registry/credentials.hpp>

#include <overmount/core/error.hpp>
#include <overmount/registry/base64.hpp>

#include "support/catch.hpp"

#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>

namespace {

using overmount::errc;
using overmount::registry_credentials;
using overmount::registry::authorization;
using overmount::registry::base64_decode;
using overmount::registry::base64_encode;
using overmount::registry::secret;

template <class T>
concept streamable = requires(std::ostream& out, const T& value) { out << value; };
template <class T>
concept has_to_string = requires(const T& value) { to_string(value); } || requires(const T& value) { std::to_string(value); };
template <class T>
constexpr bool can_be_shown = streamable<T> || has_to_string<T> || std::is_convertible_v<T, std::string> ||
                              std::is_convertible_v<T, std::string_view> || std::is_constructible_v<std::string, T> ||
                              std::is_constructible_v<std::string_view, T> || std::is_convertible_v<T, const char*>;

// Secrets cannot be streamed or converted to a string; the last line shows that the check finds what can.
static_assert(!can_be_shown<registry_credentials>);
static_assert(!can_be_shown<secret>);
static_assert(can_be_shown<std::string> && can_be_shown<int>);
static_assert(!std::is_aggregate_v<registry_credentials> && !std::is_aggregate_v<secret>);
static_assert(!std::is_convertible_v<std::string, secret> && !std::is_convertible_v<registry_credentials, bool>);

// The words of the error that `make` throws.
template <class Make>
std::string refusal(Make make)
{
    try {
        (void)make();
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::login_refused);
        return failure.what();
    }
    return {};
}

TEST_CASE("base64 has padding, and what was encoded is decoded")
{
    const std::pair<std::string, std::string> rows[] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}, {"\xff\xfe\xfb", "//77"},
    };
    for (const auto& [bytes, text] : rows) {
        INFO(text);
        CHECK(base64_encode(bytes) == text);
        CHECK(base64_decode(text) == bytes);
    }
}

TEST_CASE("base64 is decoded as leniently as docker does")
{
    const std::pair<std::string, std::string> rows[] = {
        {"Zg", "f"}, {"Zg=", "f"}, {"Zm8", "fo"}, {"Zm9v\r\nYmFy\n", "foobar"}, {"Zm9vAA==", "foo"},
        {"Zm9vAAAA", "foo"}, {"AAAA", ""},
    };
    for (const auto& [text, bytes] : rows) {
        INFO(text);
        CHECK(base64_decode(text) == bytes);
    }
}

TEST_CASE("what is not base64 is not decoded")
{
    for (const std::string& text : {std::string("Z"), std::string("Zm9vY"), std::string("Zg==="), std::string("Zm8=="),
                                    std::string("Zm9v="), std::string("="), std::string("Z=g"),
                                    std::string("Zm9v-AAA"), std::string(" Zm9v"), std::string("Zm9v "), std::string("Zm_v"),
                                    std::string("Zm9v\0AAA", 8), std::string("\xc3\xa4Zm")}) {
        INFO(text);
        CHECK_FALSE(base64_decode(text));
    }
}

TEST_CASE("credentials of a registry may be none")
{
    for (const registry_credentials& none :
         {registry_credentials(), registry_credentials::password("", ""), registry_credentials::identity_token(""),
          registry_credentials::password("<token>", ""), registry_credentials::bearer("")}) {
        CHECK_FALSE(none);
        CHECK(none == registry_credentials());
        CHECK(none.user().empty());
        CHECK(authorization::basic_header(none).empty());
        CHECK(authorization::bearer_header(none).empty());
        CHECK(authorization::form_fields(none).empty());
    }
}

TEST_CASE("a registry's user and password become a Basic header")
{
    const auto value = registry_credentials::password("Aladdin", "open:sesame");
    CHECK(value);
    CHECK(value.user() == "Aladdin");
    CHECK(authorization::basic_header(value) == secret("Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ=="));
    CHECK(authorization::bearer_header(value).empty());
    CHECK(authorization::form_fields(value).empty());
    CHECK(authorization::basic_header(registry_credentials::password("a", "")).reveal() == "Basic YTo=");
}

TEST_CASE("a registry's identity token becomes form fields, or a Basic header without a user")
{
    const auto value = registry_credentials::identity_token("tok");
    CHECK(value);
    CHECK(value.user() == "<token>");
    CHECK(authorization::basic_header(value).reveal() == "Basic " + base64_encode(":tok"));
    CHECK(authorization::bearer_header(value).empty());
    const auto fields = authorization::form_fields(value);
    REQUIRE(fields.size() == 2);
    CHECK((fields[0].first == "grant_type" && fields[0].second.reveal() == "refresh_token"));
    CHECK((fields[1].first == "refresh_token" && fields[1].second.reveal() == "tok"));
}

TEST_CASE("the user <token> means an identity token")
{
    CHECK(registry_credentials::password("<token>", "tok") == registry_credentials::identity_token("tok"));
}

TEST_CASE("a bearer token is sent to the registry as it is")
{
    const auto value = registry_credentials::bearer("tok");
    CHECK(value);
    CHECK(value.user().empty());
    CHECK(authorization::bearer_header(value).reveal() == "Bearer tok");
    CHECK(authorization::bearer_header("other").reveal() == "Bearer other");
    CHECK(authorization::basic_header(value).empty());
    CHECK(authorization::form_fields(value).empty());
}

TEST_CASE("credentials are equal if kind, user and secret are")
{
    const auto value = registry_credentials::password("u", "p");
    CHECK(value == registry_credentials::password("u", "p"));
    CHECK(value != registry_credentials::password("u", "q"));
    CHECK(value != registry_credentials::password("v", "p"));
    CHECK(registry_credentials::password("", "p") != registry_credentials::bearer("p"));
    CHECK(registry_credentials::bearer("p") != registry_credentials::identity_token("p"));
}

TEST_CASE("credentials with control characters are refused, and not shown")
{
    for (const char tail : {'\r', '\n', '\0', '\t', '\x7f'}) {
        const std::string text = std::string("hunter2") + tail;
        const std::string refusals[] = {refusal([&] { return registry_credentials::password("user", text); }),
                                        refusal([&] { return registry_credentials::password(text, "password"); }),
                                        refusal([&] { return registry_credentials::identity_token(text); }),
                                        refusal([&] { return registry_credentials::bearer(text); })};
        for (const std::string& words : refusals) {
            CHECK_THAT(words, Catch::Matchers::ContainsSubstring("control characters"));
            CHECK(words.find("hunter2") == std::string::npos);
        }
    }
    CHECK(registry_credentials::password("\xc3\xa4", "\xc3\xb6 x"));
}

TEST_CASE("a user with a colon is refused, and not shown")
{
    const std::string words = refusal([] { return registry_credentials::password("hunter2:x", "p"); });
    CHECK_THAT(words, Catch::Matchers::ContainsSubstring("colon"));
    CHECK(words.find("hunter2") == std::string::npos);
}

TEST_CASE("a secret has at most 1 MiB")
{
    const std::string most(std::size_t{1} << 20, 'a');
    CHECK(registry_credentials::password("u", most));
    CHECK_THAT(refusal([&] { return registry_credentials::password("u", most + "a"); }),
               Catch::Matchers::ContainsSubstring("1 MiB"));
}

} // namespace
