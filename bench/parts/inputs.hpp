// What the parts are fed with: the same in every run, made in memory.
#ifndef OVERMOUNT_BENCH_PARTS_INPUTS_HPP
#define OVERMOUNT_BENCH_PARTS_INPUTS_HPP

#include "support/tar_writer.hpp"

#include <benchmark/benchmark.h>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::bench {

// As large as a buffer of the pipeline's ring.
inline constexpr std::size_t piece_size = 256 << 10;

// Words in lines, some of them far more often than others; gzip makes a third of it, as of the files of a distribution.
// std's distributions differ between libraries, so only the engine is used.
[[nodiscard]] inline std::string text(std::size_t size)
{
    std::mt19937 random(1);
    std::vector<std::string> words(4096);
    for (std::string& word : words)
        for (auto letters = 2 + random() % 9; letters != 0; --letters)
            word += static_cast<char>('a' + random() % 26);
    std::string out;
    out.reserve(size + 16);
    while (out.size() < size) {
        out += words[(random() % words.size()) >> (random() % 12)];
        out += random() % 10 == 0 ? '\n' : ' ';
    }
    out.resize(size);
    return out;
}

// 1000 files of up to 8 KiB in 50 directories, owned by whoever runs this. With `pax` each has a time with nanoseconds
// in a PAX header, as archives of newer tools have.
inline constexpr std::size_t small_files = 1000, small_entries = 3 + 50 + small_files;
[[nodiscard]] inline std::string tar_of_small_files(bool pax = false)
{
    test::tar_attributes own{.uid = ::geteuid(), .gid = ::getegid()};
    own.mtime_ns = pax ? 123'456'789 : 0;
    const std::string content = text(1 << 16);
    test::tar_writer out;
    out.directory("./", own).directory("usr/", own).directory("usr/share/", own);
    std::string directory;
    for (std::size_t i = 0; i < small_files; ++i) {
        if (i % 20 == 0) {
            directory = "usr/share/package-" + std::to_string(i / 20) + "/";
            out.directory(directory, own);
        }
        const auto part = std::string_view(content).substr(i * 53, i * 977 % 8192);
        out.file(directory + "file-" + std::to_string(i) + ".txt", part, own);
    }
    return out.finish();
}

// One file of 64 MiB, for what does not look at its data.
[[nodiscard]] inline std::string tar_of_large_file()
{
    const test::tar_attributes own{.uid = ::geteuid(), .gid = ::getegid()};
    return test::tar_writer().file("large", std::string(64 << 20, '.'), own).finish();
}

[[nodiscard]] inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// Hands the bytes over in pieces, as the pipeline does.
template <class Take>
void in_pieces(std::span<const std::byte> bytes, Take take)
{
    for (; bytes.size() > piece_size; bytes = bytes.subspan(piece_size))
        take(bytes.first(piece_size));
    take(bytes);
}

// A figure is worth nothing if the work was not done.
inline void need(bool holds, const char* what)
{
    if (!holds)
        throw std::runtime_error(what);
}

// How much each iteration does; printed per second of processor time, k, M and G being powers of 1000.
inline void per_iteration(benchmark::State& state, const char* what, std::size_t count)
{
    state.counters[what] = benchmark::Counter(static_cast<double>(count), benchmark::Counter::kIsIterationInvariantRate);
}

} // namespace overmount::bench

#endif
