#ifndef OVERMOUNT_REGISTRY_CONNECTION_POOL_HPP
#define OVERMOUNT_REGISTRY_CONNECTION_POOL_HPP

#include <overmount/registry/connection.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/execution_context.hpp>

#include <chrono>
#include <cstddef>
#include <memory>

namespace overmount::OVERMOUNT_ABI::registry {

class connection_limits
{
public:
    /// Connections to one target, idle ones included; 6 by default.
    connection_limits& per_target(unsigned count)
    {
        per_target_ = count;
        return *this;
    }
    /// Connections in all, idle ones included; 64 by default.
    connection_limits& in_all(unsigned count)
    {
        in_all_ = count;
        return *this;
    }
    /// How long a connection may be idle; 30 seconds by default.
    connection_limits& idle_time(std::chrono::milliseconds time)
    {
        idle_time_ = time;
        return *this;
    }
    [[nodiscard]] unsigned per_target() const noexcept { return per_target_; }
    [[nodiscard]] unsigned in_all() const noexcept { return in_all_; }
    [[nodiscard]] std::chrono::milliseconds idle_time() const noexcept { return idle_time_; }

private:
    unsigned per_target_ = 6, in_all_ = 64;
    std::chrono::milliseconds idle_time_ = std::chrono::seconds(30);
};

/// A connection that was taken from a pool, with its place among the connections that the pool allows. The destructor closes it and
/// frees the place.
///
/// *Lifetimes*: when its context is destroyed, the connection is closed; the handle may be destroyed later.
/// *Concurrency*: as of `connection`; it may be given back by any thread.
class pooled_connection
{
public:
    /// An empty handle.
    pooled_connection() = default;
    pooled_connection(pooled_connection&& other) noexcept = default;
    pooled_connection& operator=(pooled_connection&& other) noexcept = default;
    ~pooled_connection() = default;

    explicit operator bool() const noexcept { return place_ != nullptr; }
    [[nodiscard]] connection& operator*() const noexcept;
    [[nodiscard]] connection* operator->() const noexcept { return &**this; }

    /// Whether an earlier exchange used the connection: the server may have closed it since.
    [[nodiscard]] bool is_reused() const noexcept;
    /// Replaces the connection by a fresh one in the same place. Errors are those of `connection::open`.
    [[nodiscard]] boost::asio::awaitable<void> reopen();
    /// Lets others use the connection, unless it is closed. The handle is empty afterwards.
    void give_back() noexcept;

private:
    friend class connection_pool;
    struct place;
    explicit pooled_connection(std::shared_ptr<place> owned) noexcept;
    static boost::asio::awaitable<void> open(std::shared_ptr<place> self);
    std::shared_ptr<place> place_;
};

/// The connections of one execution context: it bounds their number, and keeps idle ones for the next request to the same target.
///
/// Idle connections are closed when they were idle for too long, which any use of the pool notices (a timer would keep the context
/// busy), when another target needs the place, and when the context is destroyed. Loaded TLS settings are kept too: a changed
/// certificate file is not noticed.
///
/// *Concurrency*: thread-safe.
class connection_pool : public boost::asio::execution_context::service
{
public:
    using key_type = connection_pool;
    inline static boost::asio::execution_context::id id;

    /// Called by Asio. Other limits than the default ones: `boost::asio::make_service<connection_pool>(context, limits)`, before the
    /// pool is used.
    explicit connection_pool(boost::asio::execution_context& context, connection_limits limits = {});
    ~connection_pool() override;

    /// The pool of the executor's context. It lives as long as the context.
    [[nodiscard]] static connection_pool& of(const boost::asio::any_io_executor& executor);

    /// Takes an idle connection, or opens one. While the limits allow no further one, it waits in order: first for a place of the target,
    /// then for one in all.
    ///
    /// *Errors*: those of `connection::open`; `operation_aborted` after the context was shut down.
    /// *Cancellation*: all types that the coroutine lets through.
    [[nodiscard]] boost::asio::awaitable<pooled_connection> acquire(connection_target target, connection_options options = {});

    /// How many connections are idle.
    [[nodiscard]] std::size_t idle() const;
    /// Closes all idle connections.
    void close_idle() noexcept;

    void shutdown() noexcept override;

private:
    friend class pooled_connection;
    struct state;
    static boost::asio::awaitable<pooled_connection> acquire_from(std::shared_ptr<state> owner, connection_target target,
                                                                  connection_options options);
    std::shared_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/connection_pool.ipp>
#endif

#endif
