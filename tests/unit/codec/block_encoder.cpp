#include <overmount/codec/block_encoder.hpp>
#include <overmount/codec/decoder.hpp>

#include "support/catch.hpp"

#include <random>

using namespace overmount;

namespace {

std::string encode(const layer_encoding& how, const std::string& text, std::size_t block)
{
    detail::block_encoder encoder(how);
    std::string out = encoder.begin();
    for (std::size_t begin = 0; begin < text.size(); begin += block) {
        const auto piece = std::as_bytes(std::span(text)).subspan(begin, std::min(block, text.size() - begin));
        const detail::encoded_block made = encoder.encode(piece);
        encoder.note(made);
        out += made.bytes;
    }
    return out + encoder.end();
}

std::string decode(compression kind, const std::string& bytes)
{
    detail::decoder decoder(kind, limits());
    std::string out, room(100'000, '\0');
    auto input = std::as_bytes(std::span(bytes));
    for (;;) {
        const auto made = decoder.step(input, std::as_writable_bytes(std::span(room)));
        input = input.subspan(made.consumed);
        out.append(room, 0, made.produced);
        if (input.empty() && made.produced < room.size())
            break;
    }
    decoder.finish();
    return out;
}

std::string some_text(std::size_t size)
{
    std::mt19937 random(7);
    std::string out;
    while (out.size() < size)
        out += "line " + std::to_string(random() % 1000) + "\n";
    out.resize(size);
    return out;
}

} // namespace

TEST_CASE("blocks decode to the original bytes")
{
    for (const compression kind : {compression::gzip, compression::zstd})
        for (const std::size_t size : {0u, 1u, 999u, 1000u, 1001u, 300'000u})
            for (const std::size_t block : {1000u, 65536u, 1u << 20}) {
                const std::string text = some_text(size);
                const std::string bytes = encode(layer_encoding(kind), text, block);
                CHECK(detail::detect_compression(std::as_bytes(std::span(bytes))) == kind);
                CHECK((decode(kind, bytes) == text)); // the extra parentheses keep megabytes out of the report
            }
}

TEST_CASE("incompressible bytes decode to the original bytes as well")
{
    std::mt19937 random(9);
    std::string noise(200'000, '\0');
    for (char& c : noise)
        c = static_cast<char>(random());
    for (const compression kind : {compression::gzip, compression::zstd})
        CHECK((decode(kind, encode(layer_encoding(kind, 1), noise, 50'000)) == noise));
}

TEST_CASE("a higher level compresses better, and the output is reproducible")
{
    const std::string text = some_text(400'000);
    for (const compression kind : {compression::gzip, compression::zstd}) {
        const std::string fast = encode(layer_encoding(kind, 1), text, 1 << 20);
        const std::string small = encode(layer_encoding(kind, 9), text, 1 << 20);
        CHECK(small.size() < fast.size());
        CHECK((small == encode(layer_encoding(kind, 9), text, 1 << 20)));
    }
}

TEST_CASE("an unsupported encoding or level is rejected")
{
    for (const auto& [kind, level] : {std::pair(compression::gzip, 0), std::pair(compression::gzip, 10),
                                      std::pair(compression::zstd, 20), std::pair(compression::zstd, -1),
                                      std::pair(compression::none, 1), std::pair(compression::xz, 6)})
        CHECK_THROWS_AS(layer_encoding(kind, level), error);
    CHECK(layer_encoding(compression::gzip).level() == 6);
    CHECK(layer_encoding(compression::zstd).level() == 3);
}
