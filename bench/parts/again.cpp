// An image whose layers are all there, imported again in the same process: opening the repository, and the import. The goal
// is 5 ms and 50 microseconds a layer.
#include <overmount/overmount.hpp>

#include "inputs.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"

namespace {

namespace bench = overmount::bench;

void again(benchmark::State& state)
{
    const overmount::test::scratch_directory scratch;
    overmount::test::image_source image{.tags = {"example.org/bench:1"}};
    for (std::int64_t layer = 0; layer < state.range(0); ++layer) {
        const overmount::test::tar_attributes own{.uid = ::geteuid(), .gid = ::getegid()};
        image.layers.push_back({overmount::test::tar_writer().directory("d", own).file("d/" + std::to_string(layer), "text", own).finish()});
    }
    overmount::test::oci_layout_writer layout;
    layout.add(image);
    layout.finish().write_directory(scratch / "layout");
    const overmount::oci_layout source((scratch / "layout").string());
    const auto once = [&] {
        const auto repository = test::get(overmount::repository::open(
            scratch / "repository", overmount::repository_options().sync(overmount::durability::none)));
        return test::get(repository.import_image(source)).id();
    };
    const auto id = once();
    for (auto _ : state)
        bench::need(once() == id, "another image came of it");
    bench::per_iteration(state, "layers", static_cast<std::size_t>(state.range(0)));
}
BENCHMARK(again)->Arg(1)->Arg(120)->Unit(benchmark::kMillisecond)->UseRealTime();

} // namespace
