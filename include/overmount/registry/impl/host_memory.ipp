#ifndef OVERMOUNT_REGISTRY_IMPL_HOST_MEMORY_IPP
#define OVERMOUNT_REGISTRY_IMPL_HOST_MEMORY_IPP

#include <overmount/registry/host_memory.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <boost/asio/execution_context.hpp>
#include <boost/asio/query.hpp>

#include <iterator>

namespace overmount::OVERMOUNT_ABI::registry::detail {

class host_memory_service : public boost::asio::execution_context::service
{
public:
    using key_type = host_memory_service;
    inline static boost::asio::execution_context::id id;

    explicit host_memory_service(boost::asio::execution_context& context)
        : boost::asio::execution_context::service(context), memory(overmount::detail::new_shared<host_memory>())
    {
    }
    void shutdown() noexcept override { memory.reset(); }

    std::shared_ptr<host_memory> memory;
};

OVERMOUNT_DECL std::shared_ptr<host_memory> host_memory::of(const boost::asio::any_io_executor& executor)
{
    auto& context = boost::asio::query(executor, boost::asio::execution::context);
    return boost::asio::use_service<host_memory_service>(context).memory;
}

template <class Key, class Value, class IsSpent>
std::shared_ptr<Value> host_memory::find(std::map<Key, std::shared_ptr<Value>>& in, Key key, IsSpent is_spent)
{
    const std::lock_guard guard(mutex_);
    if (const auto found = in.find(key); found != in.end())
        return found->second;
    // Others copy a pointer under the mutex only, so that a single owner stays one.
    for (auto entry = in.begin(); entry != in.end();)
        entry = entry->second.use_count() == 1 && is_spent(*entry->second) ? in.erase(entry) : std::next(entry);
    for (auto entry = in.begin(); entry != in.end() && in.size() >= max_entries;)
        entry = entry->second.use_count() == 1 ? in.erase(entry) : std::next(entry);
    auto made = overmount::detail::new_shared<Value>();
    in.emplace(std::move(key), made);
    return made;
}

OVERMOUNT_DECL std::shared_ptr<host_gate> host_memory::gate(const url& at, bool is_verified)
{
    const auto now = host_gate::time_point::clock::now();
    return find(gates_, (is_verified ? "" : "!") + at.bracketed_host() + ":" + std::to_string(at.port()),
                [now](const host_gate& one) { return one.not_before() <= now; });
}

OVERMOUNT_DECL std::shared_ptr<shared_token> host_memory::token(std::string_view key)
{
    const auto now = std::chrono::steady_clock::now();
    return find(tokens_, digest::of(key), [now](const shared_token& one) { return one.get(now).empty(); });
}

} // namespace overmount::OVERMOUNT_ABI::registry::detail

#endif
