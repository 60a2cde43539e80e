// Writing small files, on tmpfs: all that a storage does with a tar, and the share of its system calls.
#include <overmount/posix/fs.hpp>
#include <overmount/storage/on_disk/extractor.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/tar/framing.hpp>

#include "conformance/storage_fixture.hpp"
#include "inputs.hpp"

namespace {

namespace bench = overmount::bench;
namespace detail = overmount::detail;
namespace tar = overmount::tar;

// What was written goes between the iterations, and does not count.
void on_disk_storage(benchmark::State& state)
{
    overmount::test::storage_fixture<overmount::on_disk_storage> place;
    const std::string archive = bench::tar_of_small_files();
    const auto id = place.id(archive);
    for (auto _ : state) {
        {
            auto writer = place.create();
            bench::in_pieces(bench::bytes_of(archive), [&](auto piece) { writer.write(piece); });
            bench::need(writer.finish().entries == bench::small_entries, "the layer has another number of entries");
            bench::need(writer.publish(id), "the layer is there already");
        }
        state.PauseTiming();
        place.storage().erase(id);
        state.ResumeTiming();
    }
    bench::per_iteration(state, "files", bench::small_files);
    bench::per_iteration(state, "bytes", archive.size());
}
BENCHMARK(on_disk_storage)->Unit(benchmark::kMillisecond);

struct file
{
    tar::entry entry;
    std::string_view data;
};

std::vector<file> files_of(const std::string& archive)
{
    tar::framing frames((overmount::limits()));
    std::vector<file> out;
    auto rest = bench::bytes_of(archive);
    for (auto event = frames.next(rest); event != tar::event::need_input; event = frames.next(rest)) {
        if (event == tar::event::entry)
            out.push_back({frames.entry(), {}});
        else if (event == tar::event::data)
            out.back().data = {reinterpret_cast<const char*>(frames.data().data()), frames.data().size()};
    }
    return out;
}

void extractor(benchmark::State& state)
{
    const overmount::test::scratch_directory scratch;
    const overmount::unique_fd top(::open(scratch.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const std::string archive = bench::tar_of_small_files();
    const auto files = files_of(archive);
    for (auto _ : state) {
        detail::make_directory(top.get(), "root", 0700);
        const auto root = detail::open_directory(top.get(), "root");
        detail::extractor out(root.get(), top.get(), overmount::limits(), false);
        for (const auto& [entry, data] : files) {
            out.begin(entry);
            if (!data.empty())
                out.data(0, bench::bytes_of(data));
            out.end();
        }
        bench::need(!out.finish().skipped_xattrs, "there are extended attributes");
        state.PauseTiming();
        detail::remove_tree(top.get(), "root", top.get());
        state.ResumeTiming();
    }
    bench::per_iteration(state, "files", bench::small_files);
    bench::per_iteration(state, "bytes", archive.size());
}
BENCHMARK(extractor)->Unit(benchmark::kMillisecond);

} // namespace
