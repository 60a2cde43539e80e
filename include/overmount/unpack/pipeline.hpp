#ifndef OVERMOUNT_UNPACK_PIPELINE_HPP
#define OVERMOUNT_UNPACK_PIPELINE_HPP

#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/step.hpp>
#include <overmount/unpack/read_steps.hpp>
#include <overmount/unpack/write_step.hpp>

#include <memory>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Creates the steps that unpack one layer.
template <diff_writer Writer>
[[nodiscard]] std::shared_ptr<step_group> layer_steps(std::shared_ptr<layer_work<Writer>> work, std::unique_ptr<layer_input> input)
{
    auto group = new_shared<step_group>();
    auto deferring = new_shared<deferred_step<Writer>>(work);
    auto writing = new_shared<write_step<Writer>>(work, deferring);
    add_read_steps(*group, std::move(work), std::move(input), writing);
    group->add(std::move(writing));
    group->add(std::move(deferring));
    return group;
}

// Unpacks one layer. Decoding runs ahead of writing if the pool has an idle worker. Rethrows the first failure of a step. No worker
// uses the writer any more when the operation completes.
template <diff_writer Writer>
asio::awaitable<void> unpack_layer(worker_pool pool, std::shared_ptr<layer_work<Writer>> work, std::unique_ptr<layer_input> input)
{
    return run_steps(std::move(pool), layer_steps(std::move(work), std::move(input)));
}

// Unpacks a small layer on the calling worker alone. The input must always have bytes available.
template <diff_writer Writer>
void unpack_layer_here(std::shared_ptr<layer_work<Writer>> work, std::unique_ptr<layer_input> input, const stop_flag& stop)
{
    layer_steps(std::move(work), std::move(input))->run_here(stop);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif
