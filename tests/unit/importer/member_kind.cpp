#include <overmount/importer/member_kind.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"

namespace {

using overmount::compression;
using overmount::detail::classify_member;
using overmount::detail::member_kind;
using overmount::test::compress;
using overmount::test::tar_writer;

// The first block, as the reader passes it.
member_kind kind_of(const std::string& content)
{
    return classify_member(std::as_bytes(std::span(content)).first(std::min<std::size_t>(content.size(), 512)));
}

TEST_CASE("a tar is a layer, with any compression")
{
    const std::string tar = tar_writer().file("a", "text").finish();
    for (const auto kind :
         {compression::none, compression::gzip, compression::zstd, compression::xz, compression::bzip2}) {
        CAPTURE(to_string(kind));
        CHECK(kind_of(compress(tar, kind)) == member_kind::layer);
    }
    CHECK(kind_of(tar_writer().pax({{"comment", "x"}}).file("a", "text").finish()) == member_kind::layer);
    CHECK(kind_of(tar.substr(0, 512)) == member_kind::layer);
}

TEST_CASE("an empty tar is a layer: no bytes, or an end marker")
{
    CHECK(kind_of("") == member_kind::layer);
    CHECK(kind_of(std::string(512, '\0')) == member_kind::layer);
    CHECK(kind_of(tar_writer().finish()) == member_kind::layer);
}

TEST_CASE("a member that begins with a bracket is a document, with or without leading blanks")
{
    for (const std::string text : {"{", "[", "{}", "[]", " \t\r\n{\"a\":1}", "[{\"Config\":\"x\"}]"}) {
        CAPTURE(text);
        CHECK(kind_of(text) == member_kind::document);
        CHECK(kind_of(text + std::string(1000, ' ')) == member_kind::document);
    }
}

TEST_CASE("any other member is neither")
{
    for (const std::string text : {"1.0", " ", "\"text\"", "null"})
        CHECK(kind_of(text) == member_kind::other);
    CHECK(kind_of(std::string(511, '\0')) == member_kind::other);
    CHECK(kind_of(std::string(512, ' ')) == member_kind::other);
    CHECK(kind_of("\x1f") == member_kind::other);
}

TEST_CASE("a tar header that is truncated or has a wrong checksum is not a layer")
{
    std::string tar = tar_writer().file("a", "text").finish();
    CHECK(kind_of(tar.substr(0, 511)) == member_kind::other);
    tar[0] = 'b';
    CHECK(kind_of(tar) == member_kind::other);
}

TEST_CASE("a tar whose first name begins with a bracket is a layer")
{
    CHECK(kind_of(tar_writer().file("{}", "text").finish()) == member_kind::layer);
    CHECK(kind_of(tar_writer().file("[a]", "text").finish()) == member_kind::layer);
}

TEST_CASE("a compression that layers must not have is refused, and named")
{
    try {
        static_cast<void>(kind_of("\x04\x22\x4d\x18 lz4"));
        FAIL("it was accepted");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == overmount::errc::unsupported_compression);
    }
}

} // namespace
