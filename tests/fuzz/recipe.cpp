// The reader of recipes on any bytes. The first byte tells whether they are a recipe as it is, or its steps, which are
// then packed as a writer does: few changes of a fuzzer would get past the checksum. What is read, a writer says again
// in the same bytes.
#include <overmount/tar/recipe.hpp>

#include "fuzz/fuzz.hpp"

#include <zstd.h>

#include <algorithm>
#include <string>

namespace {

namespace detail = overmount::detail;

std::string packed(std::string_view steps)
{
    std::string out(ZSTD_compressBound(steps.size()) + 100, '\0');
    ZSTD_CCtx* const context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 18);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    ZSTD_inBuffer from{steps.data(), steps.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    ZSTD_compressStream2(context, &to, &from, ZSTD_e_continue);
    MUST(ZSTD_compressStream2(context, &to, &from, ZSTD_e_end) == 0);
    ZSTD_freeCCtx(context);
    return "overmount recipe\x01" + out.substr(0, to.pos);
}

detail::recipe_reader reader_of(std::string_view& recipe, std::size_t piece)
{
    return detail::recipe_reader([&recipe, piece](std::span<std::byte> into) {
        const std::size_t size = std::min({piece, into.size(), recipe.size()});
        std::copy_n(recipe.data(), size, reinterpret_cast<char*>(into.data()));
        recipe.remove_prefix(size);
        return size;
    });
}

// Reads a recipe, and writes it again.
std::string again(std::string_view recipe, std::size_t piece)
{
    std::string out;
    detail::recipe_writer writer([&out](std::span<const std::byte> bytes) {
        out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    });
    auto reader = reader_of(recipe, piece);
    std::uint64_t end = 0;
    for (auto step = reader.next(); step != detail::recipe_step::end; step = reader.next()) {
        switch (step) {
        case detail::recipe_step::bytes:
            MUST(!reader.bytes().empty());
            writer.bytes(reader.bytes());
            break;
        case detail::recipe_step::file:
            end = 0;
            writer.file(reader.path(), reader.size());
            break;
        case detail::recipe_step::piece:
            MUST(reader.count() != 0 && reader.offset() >= end);
            end = reader.offset() + reader.count();
            MUST(end <= reader.size());
            writer.piece(reader.offset(), reader.count());
            break;
        case detail::recipe_step::end_file: writer.end_file(reader.crc()); break;
        case detail::recipe_step::moved: writer.moved(reader.path()); break;
        case detail::recipe_step::end: break;
        }
        MUST(step != detail::recipe_step::file || reader.path().find("..") == std::string::npos ||
             ("/" + reader.path() + "/").find("/../") == std::string::npos);
    }
    writer.finish();
    return out;
}

} // namespace

void check(std::string_view input)
{
    if (input.empty())
        return;
    const bool whole = input[0] % 2 == 0;
    input.remove_prefix(1);
    const std::string recipe = whole ? std::string(input) : packed(input);
    // Another recipe may say the same; the one that a writer makes of it is always the same.
    const std::string first = again(recipe, 1 << 20);
    MUST(again(recipe, 3) == first);
    MUST(again(first, 1 << 20) == first);
}
