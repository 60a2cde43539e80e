#ifndef OVERMOUNT_REGISTRY_HOST_MEMORY_HPP
#define OVERMOUNT_REGISTRY_HOST_MEMORY_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/error.hpp>
#include <overmount/registry/credentials.hpp>
#include <overmount/registry/retry.hpp>
#include <overmount/registry/token_request.hpp>
#include <overmount/registry/url.hpp>
#include <overmount/runtime/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI::registry::detail {

// A token that several pulls show. Who holds the turn may fetch it; others who want it wait for the turn. Thread-safe.
class shared_token
{
public:
    [[nodiscard]] boost::asio::awaitable<overmount::detail::semaphore::permit> turn() { return turn_.acquire(); }

    // The token; empty if there is none, or it has expired.
    [[nodiscard]] secret get(std::chrono::steady_clock::time_point now) const
    {
        const std::lock_guard guard(mutex_);
        return answer_ && answer_->expires() > now ? answer_->token() : secret();
    }
    void set(token_answer answer)
    {
        const std::lock_guard guard(mutex_);
        answer_.emplace(std::move(answer));
    }
    // Forgets the token if it is the one in this Authorization header, which a registry refused.
    void forget(const secret& header)
    {
        const std::lock_guard guard(mutex_);
        if (answer_ && authorization::bearer_header(answer_->token().reveal()) == header)
            answer_.reset();
    }

    // Those who waited while a fetch failed share its failure, and do not try one after the other.
    [[nodiscard]] unsigned failures() const
    {
        const std::lock_guard guard(mutex_);
        return failures_;
    }
    void fail(const error& failure)
    {
        const std::lock_guard guard(mutex_);
        ++failures_;
        failure_ = failure;
    }
    [[noreturn]] void rethrow() const
    {
        const std::lock_guard guard(mutex_);
        throw *failure_;
    }

private:
    overmount::detail::semaphore turn_{1};
    mutable std::mutex mutex_;
    std::optional<token_answer> answer_;
    unsigned failures_ = 0;
    std::optional<error> failure_;
};

// What the pulls of one execution context know together: which hosts asked to be left alone, and tokens.
// At most `max_entries` of each are remembered beside those that are in use. Thread-safe.
class host_memory
{
public:
    static constexpr std::size_t max_entries = 64;

    // The memory of the executor's context. The context keeps it; so does who has the pointer.
    [[nodiscard]] static std::shared_ptr<host_memory> of(const boost::asio::any_io_executor& executor);

    // The gate of the host and port. Whoever does not verify certificates has gates of its own: anybody may close those.
    [[nodiscard]] std::shared_ptr<host_gate> gate(const url& at, bool is_verified);
    // The token for what `key` names. \param key all that a fetched token depends on, secrets included: only its digest is kept
    [[nodiscard]] std::shared_ptr<shared_token> token(std::string_view key);

private:
    template <class Key, class Value, class IsSpent>
    std::shared_ptr<Value> find(std::map<Key, std::shared_ptr<Value>>& in, Key key, IsSpent is_spent);

    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<host_gate>> gates_;
    std::map<digest, std::shared_ptr<shared_token>> tokens_;
};

} // namespace overmount::OVERMOUNT_ABI::registry::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/host_memory.ipp>
#endif

#endif
