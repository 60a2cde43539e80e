#include <overmount/tar/recipe.hpp>

#include "support/catch.hpp"

#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <zstd.h>

namespace {

using overmount::errc;
using overmount::detail::recipe_reader;
using overmount::detail::recipe_step;
using overmount::detail::recipe_writer;

// The calls of a writer, to repeat them in other pieces and to compare them with the steps of a reader.
struct told
{
    recipe_step what;
    std::string text; // bytes, or a path
    std::uint64_t first = 0, second = 0;
};

std::string text_of(const std::vector<told>& steps)
{
    std::ostringstream out;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const told& step = steps[i];
        const bool goes_on = i != 0 && step.what == recipe_step::bytes && steps[i - 1].what == step.what;
        out << (goes_on ? "" : "\n" + std::to_string(int(step.what)) + " ") << step.text;
        if (step.what != recipe_step::bytes)
            out << ' ' << step.first << ' ' << step.second;
    }
    return out.str();
}

std::string write(const std::vector<told>& steps, std::size_t piece = 1 << 20)
{
    std::string out;
    recipe_writer writer([&](std::span<const std::byte> bytes) {
        out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    });
    for (const told& step : steps) {
        switch (step.what) {
        case recipe_step::bytes:
            for (std::size_t at = 0; at < step.text.size(); at += piece)
                writer.bytes(
                    std::as_bytes(std::span(step.text)).subspan(at, std::min(piece, step.text.size() - at)));
            break;
        case recipe_step::file: writer.file(step.text, step.first); break;
        case recipe_step::piece:
            for (std::uint64_t at = 0; at < step.second; at += piece)
                writer.piece(step.first + at, std::min<std::uint64_t>(piece, step.second - at));
            break;
        case recipe_step::end_file: writer.end_file(static_cast<std::uint32_t>(step.first)); break;
        case recipe_step::moved: writer.moved(step.text); break;
        case recipe_step::end: break;
        }
    }
    writer.finish();
    return out;
}

std::vector<told> read(std::string_view recipe, std::size_t piece = 1 << 20)
{
    std::vector<told> out;
    recipe_reader reader([&](std::span<std::byte> into) {
        const std::size_t size = std::min({piece, into.size(), recipe.size()});
        std::copy_n(recipe.data(), size, reinterpret_cast<char*>(into.data()));
        recipe.remove_prefix(size);
        return size;
    });
    for (;;) {
        const recipe_step what = reader.next();
        switch (what) {
        case recipe_step::bytes:
            CHECK_FALSE(reader.bytes().empty());
            out.push_back(
                {what, {reinterpret_cast<const char*>(reader.bytes().data()), reader.bytes().size()}});
            break;
        case recipe_step::file: out.push_back({what, reader.path(), reader.size()}); break;
        case recipe_step::piece: out.push_back({what, "", reader.offset(), reader.count()}); break;
        case recipe_step::end_file: out.push_back({what, "", reader.crc()}); break;
        case recipe_step::moved: out.push_back({what, reader.path()}); break;
        case recipe_step::end: CHECK(reader.next() == recipe_step::end); return out;
        }
    }
}

boost::system::error_code failure_of(std::string_view recipe, std::size_t piece = 1 << 20)
{
    try {
        (void)read(recipe, piece);
    } catch (const overmount::error& failure) {
        CHECK(failure.at() == overmount::stage::storage);
        return failure.code();
    }
    return {};
}

std::vector<told> random_steps(unsigned seed)
{
    std::mt19937 random(seed);
    const auto below = [&](std::uint64_t limit) { return random() % limit; };
    std::vector<told> out;
    for (std::uint64_t i = 0, count = below(200); i < count; ++i) {
        const std::string path = "d" + std::to_string(below(9)) + "/" + std::string(1 + below(300), 'x');
        if (below(3) == 0) {
            std::string bytes(below(4) == 0 ? below(200'000) : 512 * below(4) + 1, '\0');
            for (char& c : bytes)
                c = below(2) == 0 ? '\0' : static_cast<char>(below(256));
            out.push_back({recipe_step::bytes, bytes});
        } else if (below(20) == 0) {
            out.push_back({recipe_step::moved, path});
        } else {
            out.push_back({recipe_step::file, path, 0});
            const std::size_t file = out.size() - 1;
            std::uint64_t end = 0;
            for (std::uint64_t pieces = 1 + below(5); pieces != 0; --pieces) {
                const std::uint64_t begin = end + below(3) * below(1ull << 31) + (end == 0 ? 0 : 1);
                end = begin + 1 + below(1'000'000);
                out.push_back({recipe_step::piece, "", begin, end - begin});
            }
            out[file].first = end + below(100);
            out.push_back({recipe_step::end_file, "", random()});
        }
    }
    return out;
}

// A recipe whose steps are these bytes, compressed as by a writer.
std::string recipe_of(std::string_view steps, int window_log = 18)
{
    std::string packed(ZSTD_compressBound(steps.size()) + 100, '\0');
    ZSTD_CCtx* const context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    ZSTD_inBuffer in{steps.data(), steps.size(), 0};
    ZSTD_outBuffer out{packed.data(), packed.size(), 0};
    ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue);
    REQUIRE(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end) == 0);
    ZSTD_freeCCtx(context);
    return "overmount recipe\x01" + packed.substr(0, out.pos);
}

std::string bytes_of(std::initializer_list<int> values, std::string_view more = "")
{
    std::string out;
    for (const int value : values)
        out += static_cast<char>(value);
    return out + std::string(more);
}

TEST_CASE("a reader returns the steps of the writer, and the recipe does not depend on the pieces")
{
    for (unsigned seed = 0; seed < 25; ++seed) {
        INFO("seed " << seed);
        const auto steps = random_steps(seed);
        const std::string recipe = write(steps);
        const bool the_same = text_of(read(recipe)) == text_of(steps);
        CHECK(the_same);
        for (const std::size_t piece : {97u, 512u, 65535u, 65536u})
            if (piece > 97 || seed < 5)
                CHECK(write(steps, piece) == recipe);
        const bool the_same_in_bytes = text_of(read(recipe, 1 + seed % 7)) == text_of(steps);
        CHECK(the_same_in_bytes);
    }
}

TEST_CASE("a recipe does not depend on what its thread wrote before")
{
    for (unsigned seed = 0; seed < 10; ++seed) {
        const auto steps = random_steps(seed);
        (void)write(random_steps(seed + 1000));
        std::size_t room = 1000 * seed;
        try { // a recipe that is abandoned halfway
            recipe_writer writer([&](std::span<const std::byte> bytes) {
                if (bytes.size() > room)
                    throw 7;
                room -= bytes.size();
            });
            for (int i = 0; i < 100; ++i)
                writer.file(std::string(5000, static_cast<char>('a' + i % 26)), steps.size());
            writer.finish();
        } catch (int) {
        }
        std::string alone;
        std::thread([&] { alone = write(steps); }).join();
        CHECK(write(steps) == alone);
    }
}

TEST_CASE("an empty tar has a recipe")
{
    CHECK(read(write({})).empty());
}

TEST_CASE("adjacent pieces of a file are merged")
{
    const auto steps = read(write({{recipe_step::file, "a", 10},
                                   {recipe_step::piece, "", 1, 2},
                                   {recipe_step::piece, "", 3, 4},
                                   {recipe_step::piece, "", 8, 1},
                                   {recipe_step::end_file, "", 0xfffffffe}}));
    REQUIRE(steps.size() == 4);
    CHECK(steps[1].first == 1);
    CHECK(steps[1].second == 6);
    CHECK(steps[2].first == 8);
    CHECK(steps[3].first == 0xfffffffe);
}

TEST_CASE("long runs of zeros take almost no space")
{
    CHECK(write({{recipe_step::bytes, std::string(10 << 20, '\0')}}).size() < 4096);
}

TEST_CASE("a recipe that is truncated or changed anywhere is refused")
{
    const std::string recipe = write({{recipe_step::bytes, "header"},
                                      {recipe_step::file, "a/b", 5},
                                      {recipe_step::piece, "", 0, 5},
                                      {recipe_step::end_file, "", 7},
                                      {recipe_step::moved, "a/b"},
                                      {recipe_step::bytes, "rest"}});
    REQUIRE_FALSE(failure_of(recipe));
    for (std::size_t size = 0; size < recipe.size(); ++size)
        CHECK(failure_of(recipe.substr(0, size)) == errc::invalid_asset);
    for (std::size_t at = 0; at < recipe.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string damaged = recipe;
            damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
            INFO("byte " << at << ", bit " << bit);
            const auto failure = failure_of(damaged);
            CHECK(failure == (at == 16 && damaged[at] > 1 ? errc::unsupported_repository : errc::invalid_asset));
        }
    }
    for (const std::size_t piece : {1u, 65536u})
        CHECK(failure_of(recipe + '\0', piece) == errc::invalid_asset);
    CHECK(failure_of(recipe + recipe.substr(17)) == errc::invalid_asset);
}

TEST_CASE("a recipe of a newer version is distinguished from a damaged one")
{
    std::string recipe = write({});
    recipe[16] = 2;
    CHECK(failure_of(recipe) == errc::unsupported_repository);
    recipe[0] = 'x';
    CHECK(failure_of(recipe) == errc::invalid_asset);
}

TEST_CASE("invalid steps are refused")
{
    const std::string file = bytes_of({2, 1, 'a', 5}), crc = bytes_of({4, 0, 0, 0, 0});
    const std::string piece = bytes_of({3, 0, 5}), end = bytes_of({0, 5});
    REQUIRE_FALSE(failure_of(recipe_of(file + piece + crc + end)));
    const std::string many(8, '\xff');
    for (const std::string& bad : {
             file + piece + crc,                             // no end
             file + piece + crc + bytes_of({0, 4}),          // wrong size of the tar
             file + piece + crc + end + "x",                 // bytes after the end
             bytes_of({6}),                                  // an unknown step
             bytes_of({1, 0, 0}) + end,                      // an empty run of bytes
             bytes_of({1, 9, 0}, "12345") + bytes_of({0, 9}), // fewer bytes than it says
             piece + crc + end,                              // a piece outside a file
             file + crc + end,                               // a file without a piece
             file + file + piece + crc + end,                // a file within a file
             file + piece + end,                             // a file without an end
             file + piece + bytes_of({1, 1, 0, 'x'}) + crc + bytes_of({0, 6}),
             file + piece + bytes_of({5, 1, 'a'}) + crc + end,
             file + bytes_of({3, 0, 0}) + crc + bytes_of({0, 0}), // an empty piece
             file + bytes_of({3, 1, 5}) + crc + end,              // exceeds the size of the file
             file + bytes_of({3, 6, 1}) + crc + bytes_of({0, 1}),
             file + bytes_of({3, 1, 1, 3, 0, 4}) + crc + end,     // the pieces together do
             file + bytes_of({3}, many + '\x7f') + piece + crc + end, // a number that overflows with another
             file + bytes_of({3}, many + '\xff') + piece + crc + end, // a number without an end
             bytes_of({2, 0, 5}) + piece + crc + end,                 // an empty path
             bytes_of({2, 0xff, 0xff, 1}) + end,                      // a path too long
         })
        CHECK(failure_of(recipe_of(bad)) == errc::invalid_asset);
    for (const std::string path : {"/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/."}) {
        const auto size = static_cast<int>(path.size());
        CHECK(failure_of(recipe_of(bytes_of({2, size}, path) + "\5" + piece + crc + end)) ==
              errc::invalid_asset);
        CHECK(failure_of(recipe_of(bytes_of({5, size}, path) + bytes_of({0, 0}))) == errc::invalid_asset);
    }
    CHECK(failure_of(recipe_of(bytes_of({2, 3, 'a', 0, 'b', 5}) + piece + crc + end)) ==
          errc::invalid_asset);
    CHECK_FALSE(failure_of(recipe_of(bytes_of({5, 6}, "..a/.b") + bytes_of({0, 0}))));
}

TEST_CASE("the sum of sizes in a recipe cannot overflow")
{
    const std::string large = std::string(8, '\xff') + '\x3f'; // 2^62 - 1
    const std::string file = bytes_of({2, 1, 'a'}, large) + bytes_of({3, 0}, large) + bytes_of({4, 0, 0, 0, 0});
    CHECK_FALSE(failure_of(recipe_of(file + bytes_of({0}, large))));
    CHECK(failure_of(recipe_of(file + file + file + bytes_of({0}, large))) == errc::invalid_asset);
}

TEST_CASE("a recipe with a larger zstd window than ours is refused")
{
    std::string steps;
    for (int i = 0; i < 100; ++i)
        steps += bytes_of({1, 0xff, 0xff}, std::string(0xffff, 'x'));
    steps += bytes_of({0});
    for (std::uint64_t total = 100 * 0xffff; total != 0; total >>= 7)
        steps += static_cast<char>((total & 0x7f) | (total >= 0x80 ? 0x80 : 0));
    CHECK_FALSE(failure_of(recipe_of(steps)));
    CHECK(failure_of(recipe_of(steps, 22)) == errc::invalid_asset);
}

TEST_CASE("skippable zstd frames in or after a recipe are refused")
{
    const std::string recipe = write({});
    const std::string skippable = bytes_of({0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'});
    CHECK(failure_of(recipe.substr(0, 17) + skippable + recipe.substr(17)) == errc::invalid_asset);
    CHECK(failure_of(recipe + skippable) == errc::invalid_asset);
}

TEST_CASE("exceptions of a recipe's output are passed on")
{
    recipe_writer one([](std::span<const std::byte>) { throw 7; });
    CHECK_THROWS_AS(one.finish(), int);
}

} // namespace
