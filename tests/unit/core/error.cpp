#include <overmount/core/error.hpp>

#include "support/catch.hpp"

#include <cerrno>
#include <set>
#include <string>

namespace {

using overmount::condition;
using overmount::errc;
using overmount::error;
using overmount::stage;

constexpr int last_errc = static_cast<int>(errc::credential_helper_failed);

int conditions_of(const boost::system::error_code& code)
{
    int count = 0;
    for (int i = 1; i <= static_cast<int>(condition::system_failure); ++i)
        count += code == static_cast<condition>(i) ? 1 : 0;
    return count;
}

TEST_CASE("every error of the library has a message of its own")
{
    std::set<std::string> messages;
    for (int i = 1; i <= last_errc; ++i) {
        const std::string text = make_error_code(static_cast<errc>(i)).message();
        INFO(i);
        CHECK(text != "unknown error");
        CHECK(messages.insert(text).second);
    }
    CHECK(make_error_code(static_cast<errc>(last_errc + 1)).message() == "unknown error");
    CHECK(make_error_code(static_cast<errc>(0)).message() == "unknown error");
}

TEST_CASE("every error of the library belongs to exactly one condition")
{
    for (int i = 1; i <= last_errc; ++i) {
        INFO(make_error_code(static_cast<errc>(i)).message());
        CHECK(conditions_of(static_cast<errc>(i)) == 1);
    }
}

TEST_CASE("every errno belongs to exactly one condition")
{
    for (int number = 1; number < 134; ++number) {
        INFO(number);
        CHECK(conditions_of(error::from_errno(number).code()) == 1);
    }
    CHECK(error::from_errno(ENOSPC).code() == condition::no_space);
    CHECK(error::from_errno(EDQUOT).code() == condition::no_space);
    CHECK(error::from_errno(EPERM).code() == condition::permission_denied);
    CHECK(error::from_errno(ENOENT).code() == condition::not_found);
    CHECK(error::from_errno(ECANCELED).code() == condition::cancelled);
    CHECK(error::from_errno(EIO).code() == condition::system_failure);
}

TEST_CASE("every condition has a message")
{
    for (int i = 1; i <= static_cast<int>(condition::system_failure); ++i)
        CHECK(make_error_condition(static_cast<condition>(i)).message() != "unknown condition");
    CHECK(make_error_condition(static_cast<condition>(99)).message() == "unknown condition");
}

TEST_CASE("an error without context has the message of its code")
{
    CHECK(std::string(error(errc::invalid_whiteout).what()) == "invalid whiteout");
    CHECK(error(errc::invalid_whiteout).code() == errc::invalid_whiteout);
}

TEST_CASE("the context of an error precedes its message")
{
    const error failure = error(errc::invalid_whiteout)
                              .at(stage::extract)
                              .layer("sha256:ab")
                              .entry("etc/.wh.")
                              .operation("mknodat")
                              .detail("no name");
    CHECK(std::string(failure.what()) ==
          "unpack: layer sha256:ab: entry etc/.wh.: mknodat: invalid whiteout (no name)");
    CHECK(failure.at() == stage::extract);
    CHECK(failure.layer() == "sha256:ab");
    CHECK(failure.entry() == "etc/.wh.");
    CHECK(failure.operation() == "mknodat");
    CHECK(failure.detail() == "no name");
}

TEST_CASE("a caller can add context to an error and rethrow it")
{
    std::string text;
    try {
        try {
            throw error::from_errno(ENOENT).operation("openat");
        } catch (error& failure) {
            failure.at(stage::storage).entry("a");
            throw;
        }
    } catch (const boost::system::system_error& failure) {
        text = failure.what();
    }
    CHECK(text.starts_with("storage: entry a: openat: "));
}

TEST_CASE("foreign text is escaped in the message and unchanged in the accessor")
{
    const std::string path("a\n\x1b[31m\xff", 8);
    const error failure = error(errc::entry_escapes_layer).entry(path).subject(std::string("\0", 1));
    const std::string text = failure.what();
    CHECK(text.find("a\\n\\x1b[31m\\xff") != std::string::npos);
    CHECK(text.find("\\x00") != std::string::npos);
    CHECK(text.find('\n') == std::string::npos);
    CHECK(failure.entry() == path);
}

TEST_CASE("escaping keeps printable ASCII, escapes other bytes and truncates long text")
{
    CHECK(overmount::escape("plain ~text") == "plain ~text");
    CHECK(overmount::escape("\\n") == "\\\\n");
    CHECK(overmount::escape("\x7f") == "\\x7f");
    CHECK(overmount::escape("abcdef", 3) == "abc...");
    CHECK(overmount::escape("abc", 3) == "abc");
    CHECK(overmount::escape(std::string(1000, 'x')).size() == 403);
}

} // namespace
