// What an entry of a tar costs before anything is written: framing, libarchive's second opinion, paths, the recipe.
#include <overmount/tar/comparer.hpp>
#include <overmount/tar/framing.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/recipe.hpp>
#include <overmount/tar/whiteout.hpp>

#include "inputs.hpp"

namespace {

namespace bench = overmount::bench;
namespace detail = overmount::detail;
namespace tar = overmount::tar;
using bytes = std::span<const std::byte>;

// Frames the tar as it comes from the ring; the number of its entries.
std::size_t frame(const std::string& archive)
{
    tar::framing frames((overmount::limits()));
    bench::in_pieces(bench::bytes_of(archive), [&](bytes piece) {
        while (frames.next(piece) != tar::event::need_input) {
        }
    });
    frames.finish();
    return frames.entries();
}

void framing(benchmark::State& state, bool pax)
{
    const std::string archive = bench::tar_of_small_files(pax);
    for (auto _ : state)
        bench::need(frame(archive) == bench::small_entries, "the tar has another number of entries");
    bench::per_iteration(state, "entries", bench::small_entries);
    bench::per_iteration(state, "bytes", archive.size());
}
BENCHMARK_CAPTURE(framing, small_files, false);
BENCHMARK_CAPTURE(framing, small_files_with_pax, true);

// Data are handed on and not looked at, so bytes a second would say nothing.
void framing_large_file(benchmark::State& state)
{
    const std::string archive = bench::tar_of_large_file();
    for (auto _ : state)
        bench::need(frame(archive) == 1, "the tar has another number of entries");
    bench::per_iteration(state, "pieces", archive.size() / bench::piece_size + 1);
}
BENCHMARK(framing_large_file);

// The tar of small files, framed: what comes behind framing is measured without it.
struct framed
{
    tar::entry entry;
    std::vector<std::byte> header;
    std::uint64_t behind = 0; // data and padding
};

std::vector<framed> framed_entries(const std::string& archive)
{
    tar::framing frames((overmount::limits()));
    std::vector<framed> out;
    auto rest = bench::bytes_of(archive);
    for (auto event = frames.next(rest); event != tar::event::need_input; event = frames.next(rest))
        if (event == tar::event::entry)
            out.push_back({frames.entry(), {frames.header_blocks().begin(), frames.header_blocks().end()},
                           frames.skippable()});
    bench::need(out.size() == bench::small_entries, "the tar has another number of entries");
    return out;
}

void comparer(benchmark::State& state)
{
    const auto entries = framed_entries(bench::tar_of_small_files());
    for (auto _ : state) {
        detail::comparer libarchive;
        for (const framed& each : entries)
            libarchive.compare(each.entry, each.header, each.behind);
    }
    bench::per_iteration(state, "entries", entries.size());
}
BENCHMARK(comparer);

// As `extractor` begins an entry.
void paths(benchmark::State& state)
{
    const auto entries = framed_entries(bench::tar_of_small_files());
    const overmount::limits bounds;
    for (auto _ : state) {
        for (const framed& each : entries) {
            const std::string path = tar::normalise(each.entry.path, bounds);
            auto meaning = tar::whiteout::of(tar::name_of(path));
            benchmark::DoNotOptimize(meaning);
        }
    }
    bench::per_iteration(state, "entries", entries.size());
}
BENCHMARK(paths);

void recipe_writer(benchmark::State& state)
{
    const auto entries = framed_entries(bench::tar_of_small_files());
    const std::vector<std::byte> zeros(512);
    std::size_t size = 0;
    for (auto _ : state) {
        size = 0;
        detail::recipe_writer recipe([&size](bytes packed) { size += packed.size(); });
        for (const framed& each : entries) {
            recipe.bytes(each.header);
            if (each.entry.size != 0) {
                recipe.file(each.entry.path, each.entry.size);
                recipe.piece(0, each.entry.size);
                recipe.end_file(static_cast<std::uint32_t>(each.entry.size * 2654435761u)); // as random as a CRC
            }
            recipe.bytes(std::span(zeros).first(each.behind - each.entry.stored_size));
        }
        recipe.finish();
    }
    bench::per_iteration(state, "entries", entries.size());
    state.counters["bytes_an_entry"] = static_cast<double>(size) / static_cast<double>(entries.size());
}
BENCHMARK(recipe_writer);

} // namespace
