#include <overmount/codec/decoder.hpp>

#include <overmount/core/error.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using overmount::compression;
using overmount::errc;
using overmount::limits;
using overmount::detail::decoder;

std::span<const std::byte> bytes(std::string_view text)
{
    return std::as_bytes(std::span(text));
}

std::string gzip(std::string_view text, gz_header* header = nullptr)
{
    z_stream stream{};
    REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    if (header != nullptr)
        REQUIRE(deflateSetHeader(&stream, header) == Z_OK);
    std::string out(text.size() + text.size() / 100 + 1000, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

using overmount::test::bzip2;
using overmount::test::xz;

struct zstd_options
{
    bool checksum = true;
    bool content_size = true;
    int window_log = 0;
};

std::string zstd(std::string_view text, zstd_options options = {})
{
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, options.checksum);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, options.window_log);
    std::string out(ZSTD_compressBound(text.size()) + 100, '\0');
    ZSTD_inBuffer in{text.data(), text.size(), 0};
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    if (options.content_size) {
        REQUIRE(!ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context, text.size())));
    } else {
        // The first call does not end the frame, so that the header is written without the content size.
        ZSTD_inBuffer first{text.data(), std::min<std::size_t>(text.size(), 1), 0};
        REQUIRE(!ZSTD_isError(ZSTD_compressStream2(context, &target, &first, ZSTD_e_continue)));
        in.pos = first.pos;
    }
    REQUIRE(ZSTD_compressStream2(context, &target, &in, ZSTD_e_end) == 0);
    ZSTD_freeCCtx(context);
    out.resize(target.pos);
    return out;
}

std::string skippable(std::string_view content, char kind = '\x50')
{
    const auto size = content.size();
    std::string out{kind, '\x2a', '\x4d', '\x18'};
    for (unsigned shift = 0; shift < 32; shift += 8)
        out += static_cast<char>(size >> shift & 0xff);
    return out.append(content);
}

// Decodes in pieces whose sizes `cut` returns, into buffers of `room` bytes.
std::string decode(compression kind, std::string_view stream, const std::function<std::size_t()>& cut,
                   std::size_t room = 64, const limits& bounds = {})
{
    decoder decode(kind, bounds);
    std::string out;
    std::vector<std::byte> buffer(room);
    while (!stream.empty()) {
        const auto piece = stream.substr(0, std::max<std::size_t>(cut(), 1));
        stream.remove_prefix(piece.size());
        auto input = bytes(piece);
        for (;;) {
            const auto done = decode.step(input, buffer);
            input = input.subspan(done.consumed);
            out.append(reinterpret_cast<const char*>(buffer.data()), done.produced);
            if (done.produced < room) {
                REQUIRE(input.empty());
                break;
            }
        }
    }
    decode.finish();
    return out;
}

std::string decode(compression kind, std::string_view stream, std::size_t room = 64,
                   const limits& bounds = {})
{
    return decode(kind, stream, [&] { return stream.size(); }, room, bounds);
}

std::string split_at(compression kind, std::string_view stream, std::size_t at)
{
    bool first = true;
    return decode(kind, stream, [&] { return std::exchange(first, false) && at > 0 ? at : stream.size(); });
}

std::optional<overmount::error> failure(const std::function<void()>& run)
{
    try {
        run();
    } catch (const overmount::error& problem) {
        CHECK(problem.at() == overmount::stage::decode);
        return problem;
    }
    return std::nullopt;
}

void check_failure(errc code, std::string_view detail, const std::function<void()>& run)
{
    const auto problem = failure(run);
    REQUIRE(problem);
    CHECK(problem->code() == code);
    CHECK_THAT(problem->detail(), Catch::Matchers::ContainsSubstring(std::string(detail)));
}

// Each split decodes to `text`, with any size of the output buffer. Truncation is an error except at `boundaries`.
void check_small(compression kind, const std::string& stream, const std::string& text,
                 const std::vector<std::size_t>& boundaries)
{
    for (std::size_t at = 0; at <= stream.size(); ++at)
        REQUIRE(split_at(kind, stream, at) == text);
    for (std::size_t room : {1u, 2u, 3u, 7u, 1000u}) {
        REQUIRE(decode(kind, stream, [] { return 1; }, room) == text);
        REQUIRE(decode(kind, stream, room) == text);
    }
    for (std::size_t at = 0; at < stream.size(); ++at) {
        INFO("cut at " << at << " of " << stream.size());
        const auto problem = failure([&] { decode(kind, stream.substr(0, at)); });
        if (std::find(boundaries.begin(), boundaries.end(), at) != boundaries.end()) {
            REQUIRE_FALSE(problem);
        } else {
            REQUIRE(problem);
            REQUIRE(problem->code() == errc::truncated_stream);
        }
    }
}

std::string sample(std::size_t size, unsigned seed)
{
    std::mt19937 random(seed);
    std::string out;
    while (out.size() < size)
        out.append(random() % 300, static_cast<char>(random() % 256)).append(std::to_string(random()));
    out.resize(size);
    return out;
}

const std::string hello = "overmount, overmount, and over again: overmount!";

} // namespace

TEST_CASE("the first bytes determine the compression")
{
    using overmount::detail::detect_compression;
    CHECK(detect_compression(bytes(gzip(hello))) == compression::gzip);
    CHECK(detect_compression(bytes(zstd(hello))) == compression::zstd);
    CHECK(detect_compression(bytes(skippable("", '\x5f'))) == compression::zstd);
    CHECK(detect_compression(bytes("etc/passwd")) == compression::none);
    CHECK(detect_compression({}) == compression::none);
    CHECK(detect_compression(bytes("\x1f")) == compression::none);
    CHECK(detect_compression(bytes("BZh9.txt")) == compression::none);
    using namespace std::string_view_literals;
    CHECK(detect_compression(bytes("\xfd\x37zXZ\0"sv)) == compression::xz);
    CHECK(detect_compression(bytes("BZh91AY&SY"sv)) == compression::bzip2);
    CHECK(detect_compression(bytes("BZh9\x17\x72"sv)) == compression::bzip2);
    for (const auto head : {"\x04\x22\x4d\x18\0\0"sv, "\x02\x21\x4c\x18\0\0"sv})
        check_failure(errc::unsupported_compression, "lz4", [&] { (void)detect_compression(bytes(head)); });
}

TEST_CASE("no compression passes the bytes through")
{
    CHECK(decoder(compression::none, {}).passthrough());
    CHECK_FALSE(decoder(compression::gzip, {}).passthrough());
    CHECK(decode(compression::none, hello, 5) == hello);
    CHECK(decode(compression::none, "").empty());
}

TEST_CASE("a decoder moves with its state")
{
    STATIC_REQUIRE(std::is_nothrow_move_constructible_v<decoder>);
    STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<decoder>);
    for (auto kind : {compression::gzip, compression::zstd}) {
        const auto stream = kind == compression::gzip ? gzip(hello) : zstd(hello);
        std::vector<std::byte> out(100);
        decoder first(kind, {});
        const auto one = first.step(bytes(stream).first(15), out);
        decoder second = std::move(first);
        const auto two =
            second.step(bytes(stream).subspan(one.consumed), std::span(out).subspan(one.produced));
        second.finish();
        CHECK(std::string(reinterpret_cast<char*>(out.data()), one.produced + two.produced) == hello);
    }
}

TEST_CASE("gzip decodes at any split and rejects truncation")
{
    SECTION("one member")
    {
        check_small(compression::gzip, gzip(hello), hello, {});
    }
    SECTION("an empty member")
    {
        check_small(compression::gzip, gzip(""), "", {});
    }
    SECTION("several members, empty ones among them")
    {
        const auto full = gzip(hello), empty = gzip("");
        const auto f = full.size(), e = empty.size();
        check_small(compression::gzip, empty + full + empty + empty + full, hello + hello,
                    {e, e + f, 2 * e + f, 3 * e + f});
    }
    SECTION("all optional header fields")
    {
        std::string name = "layer.tar", comment = "made by hand", extra = "AB\4\0data";
        extra.assign("AB\4\0data", 8);
        gz_header header{};
        header.name = reinterpret_cast<Bytef*>(name.data());
        header.comment = reinterpret_cast<Bytef*>(comment.data());
        header.extra = reinterpret_cast<Bytef*>(extra.data());
        header.extra_len = static_cast<uInt>(extra.size());
        header.hcrc = 1;
        header.time = 1234567;
        const auto stream = gzip(hello, &header);
        REQUIRE(stream[3] == 0x02 + 0x04 + 0x08 + 0x10);
        check_small(compression::gzip, stream, hello, {});
        auto broken = stream;
        broken[12] = 'X'; // in the extra field: the header CRC does not match
        check_failure(errc::corrupt_stream, "header crc", [&] { decode(compression::gzip, broken); });
    }
}

TEST_CASE("xz decodes at any split and rejects truncation")
{
    const std::string one = xz(hello), two = one + xz("") + xz(hello);
    for (std::size_t at = 0; at <= one.size(); ++at)
        CHECK(split_at(compression::xz, one, at) == hello);
    CHECK(decode(compression::xz, two) == hello + hello);
    for (std::size_t size = 0; size < one.size(); ++size)
        check_failure(errc::truncated_stream, "xz", [&] { decode(compression::xz, one.substr(0, size)); });
}

TEST_CASE("bzip2 decodes at any split and rejects truncation")
{
    const std::string one = bzip2(hello), two = one + bzip2("") + bzip2(hello);
    for (std::size_t at = 0; at <= one.size(); ++at)
        CHECK(split_at(compression::bzip2, one, at) == hello);
    CHECK(decode(compression::bzip2, two) == hello + hello);
    for (std::size_t size = 0; size < one.size(); ++size)
        check_failure(errc::truncated_stream, "bzip2",
                      [&] { decode(compression::bzip2, one.substr(0, size)); });
}

TEST_CASE("damage and trailing bytes in xz and bzip2 are detected")
{
    for (const auto& [kind, stream] :
         {std::pair(compression::xz, xz(hello)), std::pair(compression::bzip2, bzip2(hello))}) {
        std::string damaged = stream;
        damaged[stream.size() / 2] = static_cast<char>(damaged[stream.size() / 2] ^ 4);
        check_failure(errc::corrupt_stream, "incorrect", [&] { decode(kind, damaged); });
        check_failure(errc::corrupt_stream, "trailing garbage", [&] { decode(kind, stream + '\0'); });
    }
}

TEST_CASE("an xz stream that needs more memory than the limit is rejected")
{
    limits small;
    small.xz_memory = 1 << 20;
    check_failure(errc::unsupported_compression, "above the limit",
                  [&] { decode(compression::xz, xz(hello), 64, small); });
}

TEST_CASE("zstd decodes at any split and rejects truncation")
{
    SECTION("one frame, with and without checksum and content size")
    {
        for (bool checksum : {false, true})
            for (bool content_size : {false, true})
                check_small(compression::zstd, zstd(hello, {checksum, content_size}), hello, {});
    }
    SECTION("an empty frame")
    {
        check_small(compression::zstd, zstd(""), "", {});
        check_small(compression::zstd, zstd("", {false, false}), "", {});
    }
    SECTION("several frames, skippable ones anywhere")
    {
        const auto full = zstd(hello, {true, false}), skip = skippable("ignore me", '\x5a'),
                   none = skippable("");
        const auto f = full.size(), s = skip.size(), n = none.size();
        check_small(compression::zstd, skip + full + none + skip + full + none, hello + hello,
                    {s, s + f, s + f + n, 2 * s + f + n, 2 * (s + f) + n});
    }
    SECTION("skippable frames alone")
    {
        check_small(compression::zstd, skippable("a") + skippable(""), "", {9});
    }
}

TEST_CASE("large streams decode at random splits")
{
    const unsigned seed = std::random_device()();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const auto one = sample(700'000, seed), two = sample(300'000, seed + 1);
    const std::pair<compression, std::string> streams[] = {
        {compression::gzip, gzip(one) + gzip("") + gzip(two)},
        {compression::zstd, zstd(one, {true, false}) + skippable(two) + zstd(two, {false, true})},
        {compression::zstd, zstd(one, {true, true, 10}) + zstd(two, {true, false, 24})},
    };
    for (const auto& [kind, stream] : streams)
        for (std::size_t room : {1000u, 65536u, 4'000'000u}) {
            const auto text = decode(kind, stream, [&] { return random() % 5000; }, room);
            REQUIRE((text == one + two));
            REQUIRE((decode(kind, stream, room) == one + two));
        }
}

TEST_CASE("a stream without any member or frame is truncated")
{
    for (auto kind : {compression::gzip, compression::zstd})
        check_failure(errc::truncated_stream, to_string(kind), [&] { decode(kind, ""); });
}

TEST_CASE("a flipped bit in gzip's trailer is an error, in each member")
{
    const auto member = gzip(hello);
    for (std::size_t back = 1; back <= 8; ++back)
        for (std::size_t end : {member.size(), 2 * member.size()}) {
            auto stream = member + member;
            stream[end - back] ^= 1;
            check_failure(errc::corrupt_stream, "check", [&] { decode(compression::gzip, stream); });
        }
}

TEST_CASE("a flipped bit in zstd's checksum is an error, in each frame")
{
    const auto frame = zstd(hello);
    for (std::size_t back = 1; back <= 4; ++back)
        for (std::size_t end : {frame.size(), 2 * frame.size()}) {
            auto stream = frame + frame;
            stream[end - back] ^= 1;
            check_failure(errc::corrupt_stream, "checksum", [&] { decode(compression::zstd, stream); });
        }
}

TEST_CASE("only another member or frame may follow the last one")
{
    const std::pair<compression, std::string> streams[] = {{compression::gzip, gzip(hello)},
                                                           {compression::zstd, zstd(hello)}};
    using namespace std::string_literals;
    for (const auto& [kind, stream] : streams)
        for (const auto& tail : {"x"s, "garbage"s, "\0"s, std::string(512, '\0'), "\x1fx"s, "\x28\xb5\x2fx"s})
            for (std::size_t at = stream.size(); at <= stream.size() + 1; ++at)
                check_failure(errc::corrupt_stream, "trailing garbage",
                              [&, k = kind] { split_at(k, stream + tail, at); });
}

TEST_CASE("a stream of another format is corrupt and not reported as trailing garbage")
{
    for (auto kind : {compression::gzip, compression::zstd}) {
        const auto problem = failure([&] { decode(kind, "no such thing at all"); });
        REQUIRE(problem);
        CHECK(problem->code() == errc::corrupt_stream);
        CHECK(problem->detail() != "trailing garbage");
    }
}

TEST_CASE("a zstd window above the limit is rejected, however the stream is split")
{
    const auto text = sample(100'000, 1);
    const auto stream = zstd(text, {true, false, 20});
    limits bounds;
    bounds.zstd_window = 1 << 20;
    CHECK((decode(compression::zstd, stream, 1'000'000, bounds) == text));
    bounds.zstd_window -= 1;
    for (std::size_t room : {100u, 1'000'000u})
        for (std::size_t piece : {1u, 1'000'000u})
            check_failure(errc::unsupported_compression, "window of 1048576 bytes",
                          [&] { decode(compression::zstd, stream, [&] { return piece; }, room, bounds); });
    // A single-segment frame: the window is the content size. This is the smallest frame with a content size of 2^62 bytes.
    using namespace std::string_literals;
    check_failure(errc::unsupported_compression, "4611686018427387904",
                  [] { decode(compression::zstd, "\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x40\1\0\0"s); });
    // The largest window that a descriptor can encode: 1.875 * 2^41.
    check_failure(errc::unsupported_compression, "4123168604160",
                  [] { decode(compression::zstd, "\x28\xb5\x2f\xfd\0\xff\1\0\0"s); });
    bounds.zstd_window = ~std::uint64_t{0};
    check_failure(errc::unsupported_compression, "zstd",
                  [&] { decode(compression::zstd, "\x28\xb5\x2f\xfd\0\xff\1\0\0"s, 64, bounds); });
}

TEST_CASE("windows of 8 and 128 MiB work by default")
{
    for (int log : {23, 27})
        CHECK(decode(compression::zstd, zstd(hello, {true, false, log})) == hello);
    check_failure(errc::unsupported_compression, "268435456",
                  [] { decode(compression::zstd, zstd(hello, {true, false, 28})); });
}

TEST_CASE("a frame that needs a dictionary is unsupported")
{
    using namespace std::string_literals;
    check_failure(errc::unsupported_compression, "Dictionary",
                  [] { decode(compression::zstd, "\x28\xb5\x2f\xfd\x21\x07\x01\x09\0\0x"s); });
}

TEST_CASE("a stream that exceeds the compression ratio is stopped after bounded output")
{
    limits bounds;
    bounds.ratio = 100;
    bounds.ratio_from = 1 << 20;
    const std::string zeros(8 << 20, '\0');
    for (auto kind : {compression::gzip, compression::zstd}) {
        const auto stream = kind == compression::gzip ? gzip(zeros) : zstd(zeros);
        decoder decode(kind, bounds);
        std::vector<std::byte> buffer(65536);
        std::size_t produced = 0;
        auto input = bytes(stream);
        check_failure(errc::compression_ratio_exceeded, "expanded to", [&] {
            for (;;) {
                const auto done = decode.step(input, buffer);
                input = input.subspan(done.consumed);
                produced += done.produced;
                if (done.produced == 0)
                    break;
            }
        });
        CHECK(produced <= bounds.ratio_from);
    }
}

TEST_CASE("the ratio is exact to the byte and applies only above its threshold")
{
    for (auto kind : {compression::gzip, compression::zstd}) {
        const std::string zeros(400'000, '\0');
        const auto stream = kind == compression::gzip ? gzip(zeros) : zstd(zeros);
        limits bounds;
        bounds.ratio_from = zeros.size();
        bounds.ratio = 1;
        CHECK(decode(kind, stream, 1'000'000, bounds).size() == zeros.size());
        bounds.ratio_from -= 1;
        bounds.ratio = (zeros.size() + stream.size() - 1) / stream.size();
        CHECK(decode(kind, stream, 1'000'000, bounds).size() == zeros.size());
        bounds.ratio -= 1;
        check_failure(errc::compression_ratio_exceeded, "", [&] { decode(kind, stream, 1'000'000, bounds); });
    }
}

TEST_CASE("a step with an empty output buffer does nothing")
{
    const auto stream = gzip(hello);
    decoder decode(compression::gzip, {});
    const auto done = decode.step(bytes(stream), {});
    CHECK(done.consumed == 0);
    CHECK(done.produced == 0);
}

TEST_CASE("hostile bytes cause an error or bounded output")
{
    const unsigned seed = std::random_device()();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const auto text = sample(2000, seed);
    for (auto kind : {compression::gzip, compression::zstd})
        for (int round = 0; round < 2000; ++round) {
            auto stream = kind == compression::gzip ? gzip(text) : zstd(text);
            stream[random() % stream.size()] ^= static_cast<char>(1 << random() % 8);
            std::string out;
            const auto problem = failure([&] { out = decode(kind, stream, 4096); });
            if (!problem) // no checksum covers the flags and the time of a gzip header
                REQUIRE(out == text);
        }
}
