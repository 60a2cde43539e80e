#ifndef OVERMOUNT_RUNTIME_WORKER_POOL_HPP
#define OVERMOUNT_RUNTIME_WORKER_POOL_HPP

#include <overmount/core/config.hpp>

#include <boost/asio/execution_context.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

namespace detail {
class step;
} // namespace detail

/// Worker threads for blocking work: reading, decoding, hashing, writing. The class is a copyable handle. When the last handle is
/// destroyed, the threads finish all posted jobs and end.
///
/// Where the kernel allows it, each thread has its own working directory, root and umask, copied when it starts (unshare(2),
/// CLONE_FS), so that files get their exact modes regardless of the umask of the process. Relative paths that are passed to
/// operations are still resolved against the working directory of the process. The threads block all signals except those for
/// their own faults.
class worker_pool
{
public:
    /// \param workers number of threads; 0 counts as 1
    OVERMOUNT_LAZY explicit worker_pool(unsigned workers);

    /// Returns the pool of an execution context, with one thread for each processor. It is created on first use and ends with the context.
    OVERMOUNT_LAZY [[nodiscard]] static worker_pool of(boost::asio::execution_context& context);

    OVERMOUNT_LAZY [[nodiscard]] unsigned workers() const noexcept;

    /// Queues `job` for a worker. It must not throw.
    OVERMOUNT_LAZY void post(std::function<void()> job) const;

private:
    friend class detail::step;
    // Whether jobs wait for a worker, and whether workers wait for jobs. Hints only: the answer may be outdated.
    OVERMOUNT_LAZY [[nodiscard]] bool has_jobs() const noexcept;
    OVERMOUNT_LAZY [[nodiscard]] bool has_idle() const noexcept;

    struct queue;
    struct state;
    class service;

    explicit worker_pool(std::shared_ptr<state> shared) : state_(std::move(shared)) {}

    std::shared_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/runtime/impl/worker_pool.ipp>
#endif

#endif
