#include <overmount/core/digest.hpp>

#include <overmount/core/hasher.hpp>

#include "support/catch.hpp"

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::digest_algorithm;
using overmount::errc;

// FIPS 180-4 examples.
const std::string abc_256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const std::string empty_256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const std::string abc_512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

errc code_of(std::string_view text)
{
    try {
        (void)digest::parse(text);
    } catch (const overmount::error& failure) {
        return static_cast<errc>(failure.code().value());
    }
    return errc{};
}

TEST_CASE("digests of known texts equal the published values")
{
    CHECK(digest::of("abc").string() == abc_256);
    CHECK(digest::of("").string() == empty_256);
    CHECK(digest::of("abc", digest_algorithm::sha512).string() == abc_512);
}

TEST_CASE("a digest parses its own text")
{
    for (const std::string& text : {abc_256, empty_256, abc_512}) {
        const digest value = digest::parse(text);
        CHECK(value.string() == text);
        CHECK(value.hex() == text.substr(7));
        CHECK(value.bytes().size() * 2 == value.hex().size());
    }
    CHECK(digest::parse(abc_512).algorithm() == digest_algorithm::sha512);
    CHECK(digest::parse(abc_256) == digest::of("abc"));
    CHECK(digest::parse(abc_256) != digest::parse(empty_256));
}

TEST_CASE("text that is not exactly a digest is rejected")
{
    std::string upper = abc_256;
    upper[7] = 'B';
    std::string bad = abc_256;
    bad.back() = 'g';
    for (const std::string& text :
         {std::string(), std::string("sha256:"), abc_256.substr(7), abc_256 + "0", abc_256.substr(0, 70),
          upper, bad, "sha512:" + abc_256.substr(7), "sha256:" + abc_512.substr(7),
          "SHA256:" + abc_256.substr(7), "md5:" + abc_256.substr(7), " " + abc_256, abc_256 + "\n",
          "sha256:../" + abc_256.substr(10), abc_256.substr(0, 70) + std::string(1, '\0')}) {
        INFO(text);
        CHECK_FALSE(digest::try_parse(text));
        CHECK(code_of(text) == errc::invalid_digest);
    }
}

TEST_CASE("hashing in pieces gives the digest of the whole")
{
    const std::string text(100'000, 'x');
    overmount::detail::hasher pieces(digest_algorithm::sha256);
    for (std::size_t i = 0; i < text.size(); i += 997)
        pieces.update(std::as_bytes(std::span(text).subspan(i, std::min<std::size_t>(997, text.size() - i))));
    CHECK(pieces.finish() == digest::of(text));
    overmount::detail::hasher nothing(digest_algorithm::sha256);
    CHECK(nothing.finish().string() == empty_256);
}

TEST_CASE("digests of different algorithms are different and can be sorted and hashed")
{
    const digest small = digest::of("abc"), large = digest::of("abc", digest_algorithm::sha512);
    CHECK(small != large);
    CHECK((small < large) != (large < small));
    const std::unordered_set<digest> set = {small, large, small};
    CHECK(set.size() == 2);
}

TEST_CASE("digests are ordered and equal as their texts are")
{
    std::vector<digest> all;
    for (int i = 0; i < 40; ++i)
        for (const auto algorithm : {digest_algorithm::sha256, digest_algorithm::sha512})
            all.push_back(digest::of(std::to_string(i % 20), algorithm));
    for (const digest& a : all)
        for (const digest& b : all) {
            CHECK((a < b) == (a.string() < b.string()));
            CHECK((a == b) == (a.string() == b.string()));
        }
}

// OCI image spec, config.md: ChainID(L0) = DiffID(L0);
// ChainID(L0|...|Ln) = Digest(ChainID(L0|...|Ln-1) + " " + DiffID(Ln)).
TEST_CASE("the chain ID of a single layer is its diff ID")
{
    const diff_id lowest = diff_id::parse(abc_256);
    CHECK(chain_id::of(lowest).string() == abc_256);
    CHECK(chain_id::of(std::vector{lowest}).string() == abc_256);
    CHECK(chain_id::of(std::nullopt, lowest).string() == abc_256);
}

TEST_CASE("the chain ID of several layers follows the formula of the OCI image spec")
{
    const diff_id a = diff_id::parse(abc_256), b = diff_id::parse(empty_256), c(digest::of("c"));
    const std::string ab = digest::of(abc_256 + " " + empty_256).string();
    const std::string abc = digest::of(ab + " " + c.string()).string();
    CHECK(chain_id::of(std::vector{a, b}).string() == ab);
    CHECK(chain_id::of(std::vector{a, b, c}).string() == abc);
    CHECK(chain_id::of(chain_id::parse(ab), c).string() == abc);
    CHECK(chain_id::of(std::vector{b, a}).string() != ab);
    CHECK(chain_id::of(std::vector{a, a}) != chain_id::of(a));
}

// Computed with: printf '%s %s' ABC EMPTY | sha256sum
TEST_CASE("the chain ID of two known layers equals the known value")
{
    const std::vector stack = {diff_id::parse(abc_256), diff_id::parse(empty_256)};
    CHECK(chain_id::of(stack).string() ==
          "sha256:dd8ddd90bdf3ccbd91abd3f399218c9d93e91246734fab743933f42048ac3e2c");
}

TEST_CASE("the chain ID above a sha512 layer is a sha512 digest")
{
    const diff_id a = diff_id::parse(abc_512), b(digest::of("b", digest_algorithm::sha512));
    const chain_id chain = chain_id::of(std::vector{a, b});
    CHECK(chain.value() == digest::of(a.string() + " " + b.string(), digest_algorithm::sha512));
}

} // namespace

TEST_CASE("a member function of a digest has an address")
{
    const auto hex = &overmount::digest::hex;
    const digest id = digest::of("a");
    CHECK(std::invoke(hex, id) == id.hex());
    const std::vector<digest> all{digest::of("b"), id};
    CHECK(std::ranges::find(all, id.hex(), &digest::hex) == all.begin() + 1);
}
