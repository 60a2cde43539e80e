#ifndef OVERMOUNT_UNPACK_PIPELINE_HPP
#define OVERMOUNT_UNPACK_PIPELINE_HPP

#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/step.hpp>
#include <overmount/unpack/read_steps.hpp>
#include <overmount/unpack/write_step.hpp>

#include <memory>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

template <diff_writer Writer>
[[nodiscard]] std::shared_ptr<step_group> layer_steps(std::shared_ptr<layer_work<Writer>> work, std::unique_ptr<layer_input> input)
{
    auto group = new_shared<step_group>();
    auto last = new_shared<rest_step<Writer>>(work);
    auto writing = new_shared<write_step<Writer>>(work, last);
    add_read_steps(*group, std::move(work), std::move(input), writing);
    group->add(std::move(writing));
    group->add(std::move(last));
    return group;
}

// Unpacks one layer: decoding runs ahead of writing where the pool has a worker to spare. Throws what a step
// threw; no worker is in the writer any more when this returns.
template <diff_writer Writer>
asio::awaitable<void> unpack_layer(worker_pool pool, std::shared_ptr<layer_work<Writer>> work, std::unique_ptr<layer_input> input)
{
    return run_steps(std::move(pool), layer_steps(std::move(work), std::move(input)));
}

// The same by the calling worker alone, for a small layer. The input never lacks bytes.
template <diff_writer Writer>
void unpack_layer_here(std::shared_ptr<layer_work<Writer>> work, std::unique_ptr<layer_input> input, const stop_flag& stop)
{
    layer_steps(std::move(work), std::move(input))->run_here(stop);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif
