#ifndef OVERMOUNT_RUNTIME_WORKER_POOL_HPP
#define OVERMOUNT_RUNTIME_WORKER_POOL_HPP

#include <overmount/core/config.hpp>

#include <boost/asio/execution_context.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

namespace detail {
class step;
} // namespace detail

/// Threads that do what blocks: reading, decoding, hashing, writing. A copyable handle; the threads end, after
/// the work at hand, with the last handle.
///
/// A thread has its working directory, root and umask for itself, as they were when it started (unshare(2), CLONE_FS),
/// where the kernel allows that: files are then made with their modes, whatever the umask of the process. Relative paths
/// that operations are given count from the working directory of the process all the same. It blocks all signals but those
/// of its own faults.
class worker_pool
{
public:
    /// \param workers number of threads, at least one
    OVERMOUNT_LAZY explicit worker_pool(unsigned workers);

    /// The pool of an execution context, one thread a processor; made on first use, it ends with the context.
    OVERMOUNT_LAZY [[nodiscard]] static worker_pool of(boost::asio::execution_context& context);

    OVERMOUNT_LAZY [[nodiscard]] unsigned workers() const noexcept;

    /// Has a worker call `job`, which must not throw.
    OVERMOUNT_LAZY void post(std::function<void()> job) const;

private:
    friend class detail::step;
    // Whether jobs wait for a worker, or a worker for jobs. Hints: it may be otherwise by now.
    OVERMOUNT_LAZY [[nodiscard]] bool has_jobs() const noexcept;
    OVERMOUNT_LAZY [[nodiscard]] bool has_idle() const noexcept;

    struct queue;
    struct state;
    class service;

    explicit worker_pool(std::shared_ptr<state> shared) : state_(std::move(shared)) {}

    std::shared_ptr<state> state_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/worker_pool.ipp>
#endif

#endif
