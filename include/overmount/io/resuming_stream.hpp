#ifndef OVERMOUNT_IO_RESUMING_STREAM_HPP
#define OVERMOUNT_IO_RESUMING_STREAM_HPP

#include <overmount/io/byte_stream.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

/// When a `resuming_stream` carries on after a failure.
class resume_policy
{
public:
    /// How often it opens the source again without a byte in between; 5 by default.
    resume_policy& attempts(unsigned count) { return set(attempts_, count); }
    /// How long it waits before it opens the source again: `first`, and twice as long each time that it fails once more, up to
    /// `longest`. Half a second and 30 seconds by default.
    resume_policy& delays(std::chrono::milliseconds first, std::chrono::milliseconds longest)
    {
        first_ = first;
        return set(longest_, longest);
    }
    /// Whether to carry on after this failure; by default after each.
    resume_policy& only_after(std::function<bool(const error&)> decides) { return set(decides_, std::move(decides)); }

    [[nodiscard]] unsigned attempts() const noexcept { return attempts_; }
    [[nodiscard]] std::chrono::milliseconds first_delay() const noexcept { return first_; }
    [[nodiscard]] std::chrono::milliseconds longest_delay() const noexcept { return longest_; }
    [[nodiscard]] bool carries_on_after(const error& failure) const { return !decides_ || decides_(failure); }

private:
    template <class Field, class Value>
    resume_policy& set(Field& field, Value&& value)
    {
        field = std::forward<Value>(value);
        return *this;
    }
    unsigned attempts_ = 5;
    std::chrono::milliseconds first_ = std::chrono::milliseconds(500), longest_ = std::chrono::seconds(30);
    std::function<bool(const error&)> decides_;
};

/// A stream of `size` bytes that carries on at an offset where its source failed or ended early.
///
/// \param open_at gives the bytes from an offset on, in bytes: called on the executor of who reads, also for offset 0, one call at
///                a time; its failures count as those of a stream. It lives as long as the stream.
/// \param size    of all of it, in bytes
/// *Errors* of the stream: the last failure, when the policy gives up; `truncated_stream` where the source ended early and
/// gave no reason. *Cancellation*: what the streams support, and while it waits. Who reads compares the bytes with a digest:
/// nothing here says that the source gives the same ones twice.
OVERMOUNT_LAZY [[nodiscard]] byte_stream resuming_stream(std::function<boost::asio::awaitable<byte_stream>(std::uint64_t)> open_at,
                                                         std::uint64_t size, resume_policy policy = resume_policy());

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/io/impl/resuming_stream.ipp>
#endif

#endif
