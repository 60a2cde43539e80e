#ifndef OVERMOUNT_UNPACK_READ_STEPS_HPP
#define OVERMOUNT_UNPACK_READ_STEPS_HPP

#include <overmount/runtime/step.hpp>
#include <overmount/unpack/layer_flow.hpp>
#include <overmount/unpack/layer_input.hpp>

#include <memory>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Adds what comes before the write step: one that reads the blob and decodes it, one that hashes the compressed blob, one that
// hashes the tar. They know nothing of a storage and are compiled once.
OVERMOUNT_LAZY void add_read_steps(step_group& group, std::shared_ptr<layer_flow> work, std::unique_ptr<layer_input> input,
                                   std::shared_ptr<step> writing);

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/unpack/impl/read_steps.ipp>
#endif

#endif
