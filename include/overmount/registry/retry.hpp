#ifndef OVERMOUNT_REGISTRY_RETRY_HPP
#define OVERMOUNT_REGISTRY_RETRY_HPP

#include <overmount/core/error.hpp>

#include <atomic>
#include <chrono>
#include <optional>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {

/// Whether a request that was answered with this status may succeed later: 408, 429, 500, 502, 503, 504.
[[nodiscard]] bool is_retried(unsigned status) noexcept;

/// How long a Retry-After asks to wait, counted from `now`: 0 for a date in the past, at most a year. A time is rounded up to
/// whole seconds. nullopt if the value is neither a number of seconds nor a date of HTTP in one of its three formats.
/// See RFC 9110, 5.6.7 and 10.2.3.
[[nodiscard]] std::optional<std::chrono::seconds> retry_after(std::string_view header, std::chrono::system_clock::time_point now);

/// How persistently a request is repeated.
class retry_policy
{
public:
    retry_policy() = default;

    unsigned tries = 5;                              ///< in a row, without a byte of progress
    std::chrono::milliseconds first_wait{500};       ///< before the second try; it doubles with each further one
    std::chrono::milliseconds longest_wait{30'000};  ///< that the doubling leads to
    std::chrono::seconds longest_retry_after{60};    ///< a registry that asks for more is not available
};

/// Whether a failed request is repeated, and after how long. Made by `decide_retry`.
class retry_decision
{
public:
    /// Do not repeat it.
    retry_decision() noexcept = default;
    /// Repeat it after `wait`.
    explicit retry_decision(std::chrono::milliseconds wait) noexcept : retries_(true), wait_(wait) {}

    [[nodiscard]] bool retries() const noexcept { return retries_; }
    [[nodiscard]] std::chrono::milliseconds wait() const noexcept { return wait_; }

private:
    bool retries_ = false;
    std::chrono::milliseconds wait_{0};
};

/// Decides what follows a failed try. The wait grows exponentially, half of it random; it comes on top of what Retry-After asks
/// for, so that those who wait for the same host do not return at the same moment.
/// \param status Of the answer; 0 if the connection failed, stalled, or ended before the body did.
/// \param after The value of Retry-After, see `retry_after`.
/// \param failures_in_a_row With this one, since the last byte of progress: at least 1. At `policy.tries` it gives up.
/// \param random From 0 to 1.
/// Throws `registry_busy` if the status is retried and `after` is longer than the policy allows; the error says how long
/// it is.
[[nodiscard]] retry_decision decide_retry(unsigned status, std::optional<std::chrono::seconds> after, unsigned failures_in_a_row,
                                          double random, const retry_policy& policy);

/// Keeps everybody from a host that asked to be left alone: one for each host. After a 429 or 503 with Retry-After it is closed
/// for that time; before a request, wait until `not_before()`, then look again. It does no waiting itself.
///
/// *Concurrency*: thread-safe.
class host_gate
{
public:
    using time_point = std::chrono::steady_clock::time_point;

    /// Nobody asks the host before this time; in the past if the gate is open.
    [[nodiscard]] time_point not_before() const noexcept { return not_before_; }
    /// Closes the gate until `when`; a gate that is closed for longer stays so.
    void close_until(time_point when) noexcept
    {
        for (time_point now = not_before_; now < when && !not_before_.compare_exchange_weak(now, when);) {
        }
    }

private:
    std::atomic<time_point> not_before_ = time_point{};
};

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/retry.ipp>
#endif

#endif
