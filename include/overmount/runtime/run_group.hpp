#ifndef OVERMOUNT_RUNTIME_RUN_GROUP_HPP
#define OVERMOUNT_RUNTIME_RUN_GROUP_HPP

#include <overmount/runtime/asio.hpp>

#include <chrono>
#include <optional>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Runs the children as one group, on the caller's executor. When the time limit expires first, it cancels all of them and fails
// with `timed_out`.
OVERMOUNT_LAZY [[nodiscard]] asio::awaitable<void> run_group(std::vector<asio::awaitable<void>> children,
                                                             std::optional<std::chrono::steady_clock::duration> limit);

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/run_group.ipp>
#endif

#endif
