#ifndef OVERMOUNT_IO_IMPL_RESUMING_STREAM_IPP
#define OVERMOUNT_IO_IMPL_RESUMING_STREAM_IPP

#include <overmount/io/resuming_stream.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/pause.hpp>

#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

class resuming_source
{
public:
    using opener = std::function<boost::asio::awaitable<byte_stream>(std::uint64_t)>;

    OVERMOUNT_LAZY resuming_source(opener open_at, std::uint64_t size, resume_policy policy)
        : state_(new_shared<state>(std::move(open_at), size, std::move(policy)))
    {}

    boost::asio::awaitable<std::size_t> read_some(std::span<std::byte> into) { return read(state_, into); }

private:
    // In bytes. Whoever gives less at a time is not asked in a row: it would be a flood of requests.
    static constexpr std::uint64_t small_part = 64 << 10;

    struct state
    {
        state(opener function, std::uint64_t bytes, resume_policy chosen)
            : open_at(std::move(function)), size(bytes), policy(std::move(chosen))
        {}
        opener open_at;
        std::uint64_t size, position = 0;
        resume_policy policy;
        std::optional<byte_stream> current;
        std::uint64_t given = 0; // bytes of `current`
        unsigned failures = 0;   // since the last byte
    };

    OVERMOUNT_LAZY static boost::asio::awaitable<std::size_t> read(std::shared_ptr<state> self, std::span<std::byte> into)
    {
        if (self->position == self->size)
            co_return 0;
        into = into.first(static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), self->size - self->position)));
        for (;;) {
            std::optional<error> failure;
            std::size_t count = 0;
            try {
                if (!self->current) {
                    self->current = co_await self->open_at(self->position);
                    self->given = 0;
                }
                count = co_await self->current->read_some(into);
            } catch (const error& failed) {
                failure = failed;
            } catch (const boost::system::system_error& failed) {
                failure = error(failed.code()).at(stage::source).operation("read");
            }
            if (count != 0) {
                self->failures = 0;
                self->given += count;
                self->position += count;
                co_return count;
            }
            self->current.reset();
            if (!failure && self->given != 0) { // a part of the content, as it was meant to be: the next one follows
                if (self->given < small_part)
                    co_await pause(self->policy.first_delay());
                continue;
            }
            if (!failure)
                failure = error(errc::truncated_stream).at(stage::source);
            const auto state_now = co_await boost::asio::this_coro::cancellation_state;
            if (state_now.cancelled() != boost::asio::cancellation_type::none || self->failures == self->policy.attempts() || !self->policy.retries_after(*failure))
                throw *failure;
            co_await pause(delay(*self));
            ++self->failures;
        }
    }

    OVERMOUNT_LAZY [[nodiscard]] static std::chrono::milliseconds delay(const state& self)
    {
        auto out = self.policy.first_delay();
        for (unsigned i = 0; i < self.failures && out < self.policy.longest_delay(); ++i)
            out *= 2;
        return std::min(out, self.policy.longest_delay());
    }

    std::shared_ptr<state> state_;
};

} // namespace detail

OVERMOUNT_LAZY_BODY byte_stream resuming_stream(std::function<boost::asio::awaitable<byte_stream>(std::uint64_t)> open_at,
                                                std::uint64_t size, resume_policy policy)
{
    return byte_stream(detail::resuming_source(std::move(open_at), size, std::move(policy)));
}

} // namespace overmount::OVERMOUNT_ABI

#endif
