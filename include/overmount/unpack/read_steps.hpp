#ifndef OVERMOUNT_UNPACK_READ_STEPS_HPP
#define OVERMOUNT_UNPACK_READ_STEPS_HPP

#include <overmount/runtime/step.hpp>
#include <overmount/unpack/layer_flow.hpp>
#include <overmount/unpack/layer_input.hpp>

#include <memory>

namespace overmount::OVERMOUNT_ABI::detail {

// Adds the steps before the write step: one reads and decodes the blob, one hashes the compressed blob, one hashes the tar. They do
// not depend on the storage policy and are compiled once.
void add_read_steps(step_group& group, std::shared_ptr<layer_flow> work, std::unique_ptr<layer_input> input,
                                   std::shared_ptr<step> writing);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/unpack/impl/read_steps.ipp>
#endif

#endif
