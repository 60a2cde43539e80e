#include <overmount/registry/link_header.hpp>

#include "support/catch.hpp"

#include <optional>
#include <string>
#include <vector>

namespace {

using overmount::errc;
using overmount::limits;
using overmount::registry::next_link;
using overmount::registry::page_guard;
using overmount::registry::parse_tag_list;
using strings = std::vector<std::string>;

boost::system::error_code tags_failure(const std::string& body)
{
    try {
        (void)parse_tag_list(body, limits());
    } catch (const overmount::error& failure) {
        return failure.code();
    }
    return {};
}

std::string list(const std::string& tags)
{
    return R"({"name":"a/b","tags":)" + tags + "}";
}

TEST_CASE("the link to the next page is found in each form")
{
    const std::pair<std::string, std::string> rows[] = {
        {R"(</v2/a/tags/list?n=2&last=b>; rel="next")", "/v2/a/tags/list?n=2&last=b"},
        {R"(<https://registry.example.com/v2/a/tags/list?last=b%2Bc>; rel="next")",
         "https://registry.example.com/v2/a/tags/list?last=b%2Bc"},
        {R"(<?last=b>; rel=next)", "?last=b"},
        {R"(<a>;rel=next)", "a"},
        {R"(  <a>  ;  rel  =  "next"  )", "a"},
        {R"(<a>; REL="NEXT")", "a"},
        {R"(<a>; Rel=Next)", "a"},
        {R"(<a>; rel="last next")", "a"},
        {R"(<a>; rel="ne\xt")", "a"},
        {R"(<a>; title="x; rel=prev, \"<b>"; rel=next)", "a"},
        {R"(<a>; flag; rel=next; more=1)", "a"},
        {R"(<a>;; rel=next;)", "a"},
        {R"(<b,c;d>; rel=next)", "b,c;d"},
        {R"(<first>; rel=first, <a>; rel=next, <last>; rel=last)", "a"},
        {R"(<first>; rel="first",<a>; rel="next")", "a"},
        {R"(<none>, ,<a>; rel=next, <b>; rel=next)", "a"},
        {R"(<>; rel=next)", ""},
    };
    for (const auto& [text, target] : rows) {
        INFO(text);
        CHECK(next_link({text}) == target);
    }
}

TEST_CASE("the link to the next page may be in any of several headers")
{
    CHECK(next_link({"<s.css>; rel=preload", "<a>; rel=next", "<b>; rel=next"}) == "a");
}

TEST_CASE("the last page has no link to a next one")
{
    CHECK_FALSE(next_link({}));
    for (const std::string text :
         {"", " , ", "<a>", "<a>; rel=prev", "<a>; rel=\"prev last\"", "<a>; rel=nextpage", "<a>; rel=", "<a>; rel",
          "<a>; title=next", "<a>; rel=prev; rel=next", "<a>; rel=\"next-page\""}) {
        INFO(text);
        CHECK_FALSE(next_link({text}));
    }
}

TEST_CASE("a malformed Link is refused, and the error does not show it")
{
    for (const std::string text :
         {"/v2/?secret; rel=next", "<a?secret; rel=next", "<a?secret>; rel=\"next", "<a?secret>; rel=\"next\\",
          "<a?secret> rel=next", "<a?secret>; rel=next x", "<a?secret>; rel=\"next\"x", "<b>; rel=prev, a?secret"}) {
        INFO(text);
        try {
            (void)next_link({text});
            FAIL();
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::malformed_answer);
            CHECK(std::string(failure.what()).find("secret") == std::string::npos);
        }
    }
}

TEST_CASE("a page that was read already is not followed")
{
    page_guard guard(10);
    guard.enter("https://r/v2/a/tags/list");
    guard.enter("https://r/v2/a/tags/list?last=secret");
    for (const std::string url : {"https://r/v2/a/tags/list", "https://r/v2/a/tags/list?last=secret"}) {
        try {
            guard.enter(url);
            FAIL();
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::malformed_answer);
            CHECK(std::string(failure.what()).find("secret") == std::string::npos);
        }
    }
}

TEST_CASE("the number of pages of a list is bounded")
{
    page_guard guard(2);
    guard.enter("a");
    guard.enter("b");
    try {
        guard.enter("c");
        FAIL();
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::json_limit_exceeded);
    }
}

TEST_CASE("a list of tags is read in its order")
{
    CHECK(parse_tag_list(list(R"(["latest","1.36","_a","A-b.c_d"])"), limits()) == strings{"latest", "1.36", "_a", "A-b.c_d"});
    CHECK(parse_tag_list(R"({"tags":["a"],"child":[],"manifest":{"x":1}})", limits()) == strings{"a"});
}

TEST_CASE("a list of tags may be empty or null")
{
    CHECK(parse_tag_list(list("[]"), limits()).empty());
    CHECK(parse_tag_list(list("null"), limits()).empty());
}

TEST_CASE("a tag outside of the grammar is refused")
{
    CHECK(parse_tag_list(list("[\"" + std::string(128, 'a') + "\"]"), limits()).size() == 1);
    for (const std::string tag : {"", ".a", "-a", "a/b", "../a", "a b", "a:b", "a@b", "\\u0000", "\\n", "\\u00e4", "a+b"}) {
        INFO(tag);
        CHECK(tags_failure(list(R"(["good",")" + tag + "\"]")) == errc::malformed_answer);
    }
    CHECK(tags_failure(list("[\"" + std::string(129, 'a') + "\"]")) == errc::malformed_answer);
}

TEST_CASE("an answer that is not a list of tags is refused")
{
    for (const std::string body : {"[]", "{}", R"({"name":"a"})", R"({"errors":[{"code":"DENIED"}]})"}) {
        INFO(body);
        CHECK(tags_failure(body) == errc::malformed_answer);
    }
    for (const std::string tags : {"{}", "1", "\"a\"", "[1]", "[null]", "[[]]"}) {
        INFO(tags);
        CHECK(tags_failure(list(tags)) == errc::malformed_answer);
    }
    CHECK(tags_failure("<html>") == errc::malformed_json);
    CHECK(tags_failure(list("[") + std::string(4 << 20, ' ')) == errc::json_limit_exceeded);
}

} // namespace
