// What is summed of every byte: SHA-256 of blobs and tars, CRC-32C of files for the recipe.
#include <overmount/codec/crc32c.hpp>
#include <overmount/core/hasher.hpp>

#include "inputs.hpp"

namespace {

namespace bench = overmount::bench;
namespace detail = overmount::detail;

// More than fits into the processor's nearer caches.
const std::string& content()
{
    static const std::string out = bench::text(16 << 20);
    return out;
}

void hasher(benchmark::State& state, overmount::digest_algorithm algorithm)
{
    const auto bytes = bench::bytes_of(content());
    for (auto _ : state) {
        detail::hasher sum(algorithm);
        bench::in_pieces(bytes, [&](auto piece) { sum.update(piece); });
        overmount::digest found = sum.finish();
        benchmark::DoNotOptimize(found);
    }
    bench::per_iteration(state, "bytes", bytes.size());
}
BENCHMARK_CAPTURE(hasher, sha256, overmount::digest_algorithm::sha256);
BENCHMARK_CAPTURE(hasher, sha512, overmount::digest_algorithm::sha512);

using crc32c_function = std::uint32_t(std::uint32_t, std::span<const std::byte>) noexcept;

void crc32c(benchmark::State& state, crc32c_function* go_on)
{
    if (go_on == detail::crc32c_by_instruction && !detail::has_crc32c_instruction())
        return state.SkipWithError("this processor has no such instruction");
    const auto bytes = bench::bytes_of(content());
    for (auto _ : state) {
        std::uint32_t sum = 0;
        bench::in_pieces(bytes, [&](auto piece) { sum = go_on(sum, piece); });
        benchmark::DoNotOptimize(sum);
    }
    bench::per_iteration(state, "bytes", bytes.size());
}
BENCHMARK_CAPTURE(crc32c, by_instruction, detail::crc32c_by_instruction);
BENCHMARK_CAPTURE(crc32c, by_table, detail::crc32c_by_table);

} // namespace
