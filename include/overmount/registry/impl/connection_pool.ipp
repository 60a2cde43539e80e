#ifndef OVERMOUNT_REGISTRY_IMPL_CONNECTION_POOL_IPP
#define OVERMOUNT_REGISTRY_IMPL_CONNECTION_POOL_IPP

#include <overmount/registry/connection_pool.hpp>

#include <overmount/core/error.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/semaphore.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/query.hpp>

#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

// Connections, and what else may call back, are destroyed without the mutex.
struct connection_pool::state
{
    using clock = std::chrono::steady_clock;
    struct idle_connection
    {
        connection link;
        clock::time_point since;
    };
    struct target_state
    {
        explicit target_state(unsigned limit) : places(limit) {}
        overmount::detail::semaphore places;
        std::deque<idle_connection> idle; // the latest at the back
    };
    using closing = std::vector<idle_connection>;

    explicit state(connection_limits chosen) : limits(chosen), places(chosen.in_all()) {}

    // All of these need the mutex.
    void close_front(target_state& of, closing& out)
    {
        out.push_back(std::move(of.idle.front()));
        of.idle.pop_front();
        --idle_count;
    }
    void close_expired(closing& out)
    {
        const auto oldest = clock::now() - limits.idle_time();
        for (auto entry = targets.begin(); entry != targets.end();) {
            target_state& of = *entry->second;
            while (!of.idle.empty() && of.idle.front().since <= oldest)
                close_front(of, out);
            // Others copy the pointer under the mutex only, so that a single owner stays one.
            const bool unused = of.idle.empty() && entry->second.use_count() == 1;
            entry = unused ? targets.erase(entry) : std::next(entry);
        }
    }
    void close_oldest(closing& out)
    {
        target_state* found = nullptr;
        for (const auto& [target, of] : targets)
            if (!of->idle.empty() && (found == nullptr || of->idle.front().since < found->idle.front().since))
                found = of.get();
        if (found != nullptr)
            close_front(*found, out);
    }
    void close_all_idle(closing& out)
    {
        for (const auto& [target, of] : targets)
            while (!of->idle.empty())
                close_front(*of, out);
    }

    std::shared_ptr<target_state> find_target(const connection_target& target)
    {
        closing out;
        const std::lock_guard guard(mutex);
        if (closed)
            throw error(boost::asio::error::operation_aborted).at(stage::source).operation("connect").subject(target.name());
        close_expired(out);
        auto& found = targets[target];
        if (!found)
            found = overmount::detail::new_shared<target_state>(limits.per_target());
        return found;
    }

    std::shared_ptr<const tls_context> find_context(const tls_settings& settings)
    {
        {
            const std::lock_guard guard(mutex);
            if (const auto found = contexts.find(settings); found != contexts.end())
                return found->second;
        }
        auto loaded = overmount::detail::new_shared<const tls_context>(settings);
        const std::lock_guard guard(mutex);
        if (contexts.size() >= max_contexts)
            contexts.clear(); // connections hold their own
        return contexts.emplace(settings, std::move(loaded)).first->second;
    }

    static constexpr std::size_t max_contexts = 32;

    const connection_limits limits;
    overmount::detail::semaphore places;
    mutable std::mutex mutex;
    bool closed = false;
    std::size_t idle_count = 0;
    std::map<connection_target, std::shared_ptr<target_state>> targets;
    std::set<pooled_connection::place*> in_use;
    std::map<tls_settings, std::shared_ptr<const tls_context>> contexts;
};

struct pooled_connection::place
{
    place(std::shared_ptr<connection_pool::state> pool, connection_target where, connection_options how)
        : owner(std::move(pool)), target(std::move(where)), options(std::move(how)), of(owner->find_target(target))
    {
    }
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place()
    {
        link.close(); // before the permits are released
        const std::lock_guard guard(owner->mutex);
        owner->in_use.erase(this);
    }

    // Counts the place, whose permits are granted, and takes an idle connection if there is one.
    void enter()
    {
        {
            const std::lock_guard guard(owner->mutex);
            if (owner->closed)
                throw error(boost::asio::error::operation_aborted);
            owner->in_use.insert(this);
        }
        while (take_idle())
            if (link.is_quiet()) {
                reused = true;
                return;
            }
    }
    bool take_idle()
    {
        connection_pool::state::closing out;
        const std::lock_guard guard(owner->mutex);
        owner->close_expired(out);
        if (of->idle.empty())
            return false;
        std::swap(link, of->idle.back().link);
        out.push_back(std::move(of->idle.back()));
        of->idle.pop_back();
        --owner->idle_count;
        return true;
    }
    // A fresh connection will be one more.
    void make_room()
    {
        connection_pool::state::closing out;
        const std::lock_guard guard(owner->mutex);
        if (owner->in_use.size() + owner->idle_count > owner->limits.in_all())
            owner->close_oldest(out);
    }
    void give_back()
    {
        connection_pool::state::closing out;
        const std::lock_guard guard(owner->mutex);
        owner->close_expired(out);
        if (owner->closed || !link.is_open())
            return;
        of->idle.push_back({std::move(link), connection_pool::state::clock::now()});
        ++owner->idle_count;
        owner->in_use.erase(this);
    }

    std::shared_ptr<connection_pool::state> owner;
    connection_target target;
    connection_options options;
    std::shared_ptr<connection_pool::state::target_state> of;
    std::optional<overmount::detail::semaphore::permit> target_permit, permit;
    connection link;
    bool reused = false;
};

OVERMOUNT_DECL pooled_connection::pooled_connection(std::shared_ptr<place> owned) noexcept : place_(std::move(owned)) {}

OVERMOUNT_DECL connection& pooled_connection::operator*() const noexcept
{
    return place_->link;
}

OVERMOUNT_DECL bool pooled_connection::is_reused() const noexcept
{
    return place_ && place_->reused;
}

OVERMOUNT_DECL boost::asio::awaitable<void> pooled_connection::reopen()
{
    if (!place_)
        throw error(errc::invalid_handle);
    return open(place_);
}

OVERMOUNT_DECL boost::asio::awaitable<void> pooled_connection::open(std::shared_ptr<place> self)
{
    self->link.close();
    self->reused = false;
    self->make_room();
    connection_options options = self->options;
    if (const auto& settings = self->target.tls(); settings && !options.context())
        options.context(self->owner->find_context(*settings));
    self->link = co_await connection::open(self->target, std::move(options));
}

OVERMOUNT_DECL void pooled_connection::give_back() noexcept
{
    try {
        if (place_)
            place_->give_back();
    } catch (const std::bad_alloc&) { // then it is closed
    }
    place_.reset();
}

OVERMOUNT_DECL connection_pool::connection_pool(boost::asio::execution_context& context, connection_limits limits)
    : boost::asio::execution_context::service(context), state_(overmount::detail::new_shared<state>(limits))
{
}

OVERMOUNT_DECL connection_pool::~connection_pool() = default;

OVERMOUNT_DECL connection_pool& connection_pool::of(const boost::asio::any_io_executor& executor)
{
    return boost::asio::use_service<connection_pool>(boost::asio::query(executor, boost::asio::execution::context));
}

OVERMOUNT_DECL boost::asio::awaitable<pooled_connection> connection_pool::acquire(connection_target target, connection_options options)
{
    return acquire_from(state_, std::move(target), std::move(options));
}

OVERMOUNT_DECL boost::asio::awaitable<pooled_connection>
connection_pool::acquire_from(std::shared_ptr<state> owner, connection_target target, connection_options options)
{
    auto place = overmount::detail::new_shared<pooled_connection::place>(owner, std::move(target), std::move(options));
    auto of_target = co_await place->of->places.acquire();
    place->target_permit.emplace(std::move(of_target));
    auto of_all = co_await owner->places.acquire();
    place->permit.emplace(std::move(of_all));
    place->enter();
    if (!place->reused)
        co_await pooled_connection::open(place);
    co_return pooled_connection(std::move(place));
}

OVERMOUNT_DECL std::size_t connection_pool::idle() const
{
    const std::lock_guard guard(state_->mutex);
    return state_->idle_count;
}

OVERMOUNT_DECL void connection_pool::close_idle() noexcept
{
    state::closing out;
    const std::lock_guard guard(state_->mutex);
    state_->close_all_idle(out);
}

OVERMOUNT_DECL void connection_pool::shutdown() noexcept
{
    close_idle();
    // No other thread uses the context by now. Closing does not resume anything.
    const std::lock_guard guard(state_->mutex);
    state_->closed = true;
    state_->contexts.clear();
    for (pooled_connection::place* const one : state_->in_use)
        one->link.close();
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
