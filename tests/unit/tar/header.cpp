#include <overmount/tar/header.hpp>

#include "support/catch.hpp"

#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace {

using overmount::tar::header;

std::optional<std::int64_t> number(std::string_view field)
{
    std::string block(512, '\0');
    block.replace(0, field.size(), field);
    return header(std::as_bytes(std::span(block))).number(0, field.size());
}

std::string text(std::string_view bytes)
{
    return std::string(bytes);
}

} // namespace

TEST_CASE("an octal number may have blanks and NULs around it", "[tar]")
{
    CHECK(number(text({"0000644\0", 8})) == 0644);
    CHECK(number(text({"  644 \0\0", 8})) == 0644);
    CHECK(number(text({"\0\0"
                       "644\0 \0",
                       8})) == 0644);
    CHECK(number("77777777") == 077777777);
    CHECK(number(text({"\0\0\0\0\0\0\0\0", 8})) == 0);
    CHECK(number("        ") == 0);
}

TEST_CASE("a field that is not an octal number is refused", "[tar]")
{
    CHECK_FALSE(number("00000008"));
    CHECK_FALSE(number("-0000001"));
    CHECK_FALSE(number("0x000001"));
    CHECK_FALSE(number("12 34   "));
    CHECK_FALSE(number(text({"12\0junk!", 8})));
    CHECK_FALSE(number("+0000001"));
}

TEST_CASE("base-256 numbers have a sign and must fit in 64 bits", "[tar]")
{
    CHECK(number(text({"\x80\0\0\0\0\0\x01\x02", 8})) == 0x102);
    CHECK(number("\xff\xff\xff\xff\xff\xff\xff\xff") == -1);
    CHECK(number("\xff\xff\xff\xff\xff\xff\xff\xfe") == -2);
    CHECK(number(text({"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12})) ==
          std::numeric_limits<std::int64_t>::max());
    CHECK(number(text({"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", 12})) ==
          std::numeric_limits<std::int64_t>::min());
    CHECK_FALSE(number(text({"\x80\0\0\0\x80\0\0\0\0\0\0\0", 12})));
    CHECK_FALSE(number(text({"\x80\0\0\x01\0\0\0\0\0\0\0\0", 12})));
    CHECK_FALSE(number(text({"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 12})));
}

TEST_CASE("only a checksum of unsigned or of signed bytes is correct", "[tar]")
{
    std::string block(512, '\0');
    block.replace(0, 3, "\xe9\xff\x01");
    const auto matches = [&](int sum) {
        char digits[8];
        std::snprintf(digits, sizeof digits, "%06o", static_cast<unsigned>(sum));
        block.replace(148, 8, std::string(digits) + std::string("\0 ", 2));
        return header(std::as_bytes(std::span(block))).checksum_matches();
    };
    const int plain = 8 * ' ' + 0xe9 + 0xff + 1;
    CHECK(matches(plain));
    CHECK(matches(plain - 512));
    CHECK_FALSE(matches(plain - 256));
    CHECK_FALSE(matches(plain + 1));
}

TEST_CASE("a decimal number consists of digits only", "[tar]")
{
    using overmount::tar::parse_decimal;
    CHECK(parse_decimal("0") == 0u);
    CHECK(parse_decimal("9223372036854775807") == 9223372036854775807u);
    for (const char* wrong : {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "99999999999999999999"})
        CHECK_FALSE(parse_decimal(wrong));
}

TEST_CASE("a percent sign and two hex digits are decoded to a byte", "[tar]")
{
    using overmount::tar::decode_percent;
    CHECK(decode_percent("a%20b%fF%25") == "a b\xff%");
    CHECK(decode_percent("") == "");
    for (const char* wrong : {"%", "%2", "%2g", "%-1", "%+1", "a%"})
        CHECK_FALSE(decode_percent(wrong));
}

TEST_CASE("base64 may lack its padding, but must not have extra bits", "[tar]")
{
    using overmount::tar::decode_base64;
    CHECK(decode_base64("") == "");
    CHECK(decode_base64("YQ") == "a");
    CHECK(decode_base64("YQ==") == "a");
    CHECK(decode_base64("YWI=") == "ab");
    CHECK(decode_base64("YWJj") == "abc");
    CHECK(decode_base64("/+8A") == std::string("\xff\xef\0", 3));
    for (const char* wrong : {"Y", "YWJjY", "YR", "YWJ=YWJj", "Y-8A", "YQ=", "YQ===", "====", "=", "Y W"})
        CHECK_FALSE(decode_base64(wrong));
}
