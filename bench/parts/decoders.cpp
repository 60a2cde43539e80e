// Decoding, in bytes of output: what one worker of the pipeline does beside hashing the blob.
#include <overmount/codec/gzip_decoder.hpp>
#include <overmount/codec/zstd_decoder.hpp>
#include <overmount/core/limits.hpp>

#include "inputs.hpp"

#include <zlib.h>
#include <zstd.h>

namespace {

namespace bench = overmount::bench;
namespace detail = overmount::detail;

std::string gzipped(const std::string& plain)
{
    z_stream stream{};
    bench::need(::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "deflateInit2");
    std::string out(::deflateBound(&stream, plain.size()), '\0');
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(plain.data()));
    stream.avail_in = static_cast<uInt>(plain.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    bench::need(::deflate(&stream, Z_FINISH) == Z_STREAM_END, "deflate");
    out.resize(stream.total_out);
    ::deflateEnd(&stream);
    return out;
}

std::string zstd_compressed(const std::string& plain)
{
    std::string out(::ZSTD_compressBound(plain.size()), '\0');
    const std::size_t size = ::ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 3);
    bench::need(!::ZSTD_isError(size), "ZSTD_compress");
    out.resize(size);
    return out;
}

// Into one buffer again and again, as into the ring.
template <class Make>
void decode(benchmark::State& state, const std::string& plain, const std::string& packed, Make make)
{
    std::vector<std::byte> out(bench::piece_size);
    for (auto _ : state) {
        auto decoder = make();
        std::size_t produced = 0;
        auto rest = bench::bytes_of(packed);
        for (;;) {
            const auto made = decoder.step(rest, out);
            rest = rest.subspan(made.consumed);
            produced += made.produced;
            if (made.consumed == 0 && made.produced == 0)
                break;
        }
        decoder.finish();
        bench::need(produced == plain.size(), "the output has another size");
    }
    bench::per_iteration(state, "bytes", plain.size());
    state.counters["ratio"] = static_cast<double>(plain.size()) / static_cast<double>(packed.size());
}

void gzip_decoder(benchmark::State& state)
{
    const std::string plain = bench::text(16 << 20);
#ifdef OVERMOUNT_WITH_ISAL
    state.SetLabel("ISA-L");
#else
    state.SetLabel("zlib");
#endif
    decode(state, plain, gzipped(plain), [] { return detail::gzip_decoder(detail::gzip_codec()); });
}
BENCHMARK(gzip_decoder);

void zstd_decoder(benchmark::State& state)
{
    const std::string plain = bench::text(16 << 20);
    decode(state, plain, zstd_compressed(plain), [] { return detail::zstd_decoder(overmount::limits().zstd_window); });
}
BENCHMARK(zstd_decoder);

} // namespace
