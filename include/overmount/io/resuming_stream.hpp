#ifndef OVERMOUNT_IO_RESUMING_STREAM_HPP
#define OVERMOUNT_IO_RESUMING_STREAM_HPP

#include <overmount/io/byte_stream.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// Decides when a `resuming_stream` retries after a failure.
class resume_policy
{
public:
    /// The number of times that it reopens the source in a row without receiving a byte; 5 by default.
    resume_policy& attempts(unsigned count) { return set(attempts_, count); }
    /// The delay before it reopens the source: `first`, doubled after each further failure, up to `longest`. By default half a
    /// second and 30 seconds.
    resume_policy& delays(std::chrono::milliseconds first, std::chrono::milliseconds longest)
    {
        first_ = first;
        return set(longest_, longest);
    }
    /// Sets a predicate that decides whether to retry after a failure. By default it retries after every failure.
    resume_policy& only_after(std::function<bool(const error&)> predicate) { return set(predicate_, std::move(predicate)); }

    [[nodiscard]] unsigned attempts() const noexcept { return attempts_; }
    [[nodiscard]] std::chrono::milliseconds first_delay() const noexcept { return first_; }
    [[nodiscard]] std::chrono::milliseconds longest_delay() const noexcept { return longest_; }
    [[nodiscard]] bool retries_after(const error& failure) const { return !predicate_ || predicate_(failure); }

private:
    template <class Field, class Value>
    resume_policy& set(Field& field, Value&& value)
    {
        field = std::forward<Value>(value);
        return *this;
    }
    unsigned attempts_ = 5;
    std::chrono::milliseconds first_ = std::chrono::milliseconds(500), longest_ = std::chrono::seconds(30);
    std::function<bool(const error&)> predicate_;
};

/// Creates a stream of `size` bytes that reopens its source at the current offset when the source fails or ends early.
///
/// A source that ends early without an error, after at least one byte, has given a part of the content, which is no failure: the next
/// part is asked for at once, or after the first delay if it was a part of less than 64 KiB.
///
/// The stream does not check that a reopened source delivers the same content: the caller must compare the bytes with a digest.
///
/// \param open_at opens the source at an offset in bytes, also at offset 0. It is called on the executor of the reading operation,
///                one call at a time. A failure of it counts like a failure of the stream.
/// \param size    of the whole content, in bytes
/// *Errors* of the stream: the last failure, when the policy gives up; `truncated_stream` if the source ended without a
/// byte and without an error. *Cancellation*: the types that the source supports; it also ends a delay. *Lifetimes*: `open_at` lives as long as the
/// stream.
OVERMOUNT_LAZY [[nodiscard]] byte_stream resuming_stream(std::function<boost::asio::awaitable<byte_stream>(std::uint64_t)> open_at,
                                                         std::uint64_t size, resume_policy policy = resume_policy());

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/io/impl/resuming_stream.ipp>
#endif

#endif
