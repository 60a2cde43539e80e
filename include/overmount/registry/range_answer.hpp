#ifndef OVERMOUNT_REGISTRY_RANGE_ANSWER_HPP
#define OVERMOUNT_REGISTRY_RANGE_ANSWER_HPP

#include <overmount/core/error.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {

/// The value of the header Range that asks for a blob from byte `from` to its end: `bytes=N-`. See RFC 9110, 14.2.
[[nodiscard]] std::string range_header(std::uint64_t from);

/// How the body of an answer continues a blob. Made by `read_range_answer`.
class range_answer
{
public:
    range_answer(std::uint64_t skip, std::optional<std::uint64_t> end) noexcept : skip_(skip), end_(end) {}

    /// Bytes at the start of the body that the caller already has and discards: more than 0 only if the registry answered a
    /// request for a range with the whole blob.
    [[nodiscard]] std::uint64_t skip() const noexcept { return skip_; }
    /// The offset in the blob of the byte after the last one of this body; nullopt if the body is the whole blob. It may lie
    /// before the blob's end: ask again from there. Bytes of the body after it are not part of the blob.
    [[nodiscard]] std::optional<std::uint64_t> end() const noexcept { return end_; }

private:
    std::uint64_t skip_;
    std::optional<std::uint64_t> end_;
};

/// Decides whether the body of an answer may be appended to the first `wanted_from` bytes of a blob.
///
/// A 206 is joined if its Content-Range starts at the wanted byte and does not contradict the size; a 200 is the whole blob. A
/// wrong Content-Length is no error: the caller counts the bytes, and fails at the first one beyond the descriptor's size. In a
/// 206, a Content-Length below that of the range moves `end()` forward.
/// \param status 200, 206 or 416: the client has handled every other status, which is an error here.
/// \param content_encoding Empty if the header is missing.
/// \param wanted_from The offset of the first wanted byte. Without Range it does not count: the body starts at 0.
/// \param size The descriptor's size in bytes, if known.
/// \param ranged Whether the request had the header Range.
/// Throws `malformed_answer`, also for a Content-Encoding: no request has Accept-Encoding. See RFC 9110, 14.4 and 15.3.7.
[[nodiscard]] range_answer read_range_answer(unsigned status, std::optional<std::string_view> content_range,
                                             std::optional<std::uint64_t> content_length, std::string_view content_encoding,
                                             std::uint64_t wanted_from, std::optional<std::uint64_t> size, bool ranged);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/range_answer.ipp>
#endif

#endif
