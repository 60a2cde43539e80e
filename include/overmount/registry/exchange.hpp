#ifndef OVERMOUNT_REGISTRY_EXCHANGE_HPP
#define OVERMOUNT_REGISTRY_EXCHANGE_HPP

#include <overmount/registry/connection_pool.hpp>
#include <overmount/registry/url.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// The header of an answer may have at most so many bytes, interim answers included.
inline constexpr std::size_t max_head_bytes = 64 * 1024;
/// `exchange::drain` reads at most so many bytes.
inline constexpr std::size_t max_drained_bytes = 16 * 1024;

using header_list = std::vector<std::pair<std::string, std::string>>;

/// Whether the exchange itself writes the header, so that a request must not have it: `Host`, `User-Agent`, `Connection`,
/// `Content-Length`, `Transfer-Encoding` and `Proxy-Authorization`, in any case.
[[nodiscard]] bool belongs_to_exchange(std::string_view header_name) noexcept;

/// A request. Its headers and its URL's query may be secrets: they must not be printed.
class request
{
public:
    request(std::string method, registry::url url) : method_(std::move(method)), url_(std::move(url)) {}

    /// Adds a header, which must not be one of `belongs_to_exchange`.
    request& header(std::string name, std::string value)
    {
        headers_.emplace_back(std::move(name), std::move(value));
        return *this;
    }
    request& body(std::string bytes)
    {
        body_ = std::move(bytes);
        return *this;
    }
    /// Whether the request may be sent again if a kept connection ended before the first byte of its answer; true by default. The server
    /// may have seen the first one.
    request& repeatable(bool allowed)
    {
        repeatable_ = allowed;
        return *this;
    }

    [[nodiscard]] const std::string& method() const noexcept { return method_; }
    [[nodiscard]] const registry::url& url() const noexcept { return url_; }
    [[nodiscard]] const header_list& headers() const noexcept { return headers_; }
    [[nodiscard]] const std::string& body() const noexcept { return body_; }
    [[nodiscard]] bool repeatable() const noexcept { return repeatable_; }

private:
    std::string method_;
    registry::url url_;
    header_list headers_;
    std::string body_;
    bool repeatable_ = true;
};

/// The head of an answer. Its headers may hold secrets.
class answer_head
{
public:
    answer_head() = default;
    answer_head(unsigned status, header_list headers, std::optional<std::uint64_t> content_length, bool keep_alive)
        : status_(status), headers_(std::move(headers)), content_length_(content_length), keep_alive_(keep_alive)
    {
    }

    [[nodiscard]] unsigned status() const noexcept { return status_; }
    /// The first header of that name, in any case, without surrounding white space.
    [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const noexcept;
    /// All headers of that name, in any case, in order.
    [[nodiscard]] std::vector<std::string> headers(std::string_view name) const;
    /// What Content-Length says. An answer to HEAD has it without having a body.
    [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept { return content_length_; }
    /// Whether the server allows further requests on the connection.
    [[nodiscard]] bool keep_alive() const noexcept { return keep_alive_; }

private:
    unsigned status_ = 0;
    header_list headers_;
    std::optional<std::uint64_t> content_length_;
    bool keep_alive_ = false;
};

class exchange_options
{
public:
    /// How long a read of the body may go without a byte of it; 30 seconds by default. Time between reads does not count.
    exchange_options& stall(std::chrono::milliseconds limit)
    {
        stall_ = limit;
        return *this;
    }
    /// How long sending the request and waiting for the head of the answer may take; 60 seconds by default. Waiting for a connection
    /// does not count.
    exchange_options& head_limit(std::chrono::milliseconds limit)
    {
        head_limit_ = limit;
        return *this;
    }
    exchange_options& connecting(connection_options options)
    {
        connecting_ = std::move(options);
        return *this;
    }
    [[nodiscard]] std::chrono::milliseconds stall() const noexcept { return stall_; }
    [[nodiscard]] std::chrono::milliseconds head_limit() const noexcept { return head_limit_; }
    [[nodiscard]] const connection_options& connecting() const noexcept { return connecting_; }

private:
    std::chrono::milliseconds stall_ = std::chrono::seconds(30), head_limit_ = std::chrono::seconds(60);
    connection_options connecting_;
};

/// One request and its answer (HTTP/1.1, RFC 9110 and 9112).
///
/// When the body was read to its end, the connection goes back to the pool if the server allows it. Otherwise the destructor, a failure
/// or a cancellation closes it.
///
/// *Errors* of its operations: `error` at `stage::source`, whose operation is the method and whose subject is the URL without its query.
/// - `errc::malformed_answer`: the answer violates HTTP or a bound
/// - `errc::truncated_stream`: the connection ended before the answer
/// - `timed_out` of Asio: a limit of the options passed
/// - `operation_aborted`: the operation was cancelled
/// - codes of the kernel, the resolver and OpenSSL; and those of `connection::open`
/// *Cancellation*: all types that the coroutine lets through take effect at once.
/// *Lifetimes*: the exchange must stay where it is while one of its operations runs.
/// *Concurrency*: not thread-safe; one operation at a time.
class exchange
{
public:
    exchange(exchange&& other) noexcept;
    exchange& operator=(exchange&& other) noexcept;
    ~exchange();

    /// Sends the request and reads the head of the answer. Interim answers (1xx) are skipped. A connection of the pool that fails before
    /// the first byte of the answer is replaced by a fresh one, once.
    ///
    /// \param pool must live until the operation ends, as the pool of the context does
    /// \param target where to connect; the request's URL gives the header Host only
    /// *Errors*: also `invalid_argument` if the method or a header cannot be sent.
    [[nodiscard]] static boost::asio::awaitable<exchange> send(connection_pool& pool, connection_target target, request what,
                                                               exchange_options options = {});

    [[nodiscard]] const answer_head& head() const noexcept;
    /// Whether the body was read to its end.
    [[nodiscard]] bool is_complete() const noexcept;

    /// Reads at least one byte of the body, or returns 0 at its end. A body whose length is known goes straight from the connection into
    /// `into`, which must not be empty.
    [[nodiscard]] boost::asio::awaitable<std::size_t> read_some(std::span<std::byte> into);
    /// Reads the rest of the body. Throws `errc::malformed_answer` if it has more than `limit` bytes.
    [[nodiscard]] boost::asio::awaitable<std::string> read_all(std::size_t limit);
    /// Reads and drops a short rest, so that the connection can be used again; closes the connection if the rest has more than
    /// `max_drained_bytes`, no known length, or does not come within a second. Throws `operation_aborted` only.
    [[nodiscard]] boost::asio::awaitable<void> drain();

private:
    class state;
    explicit exchange(std::shared_ptr<state> owned) noexcept;
    std::shared_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/exchange.ipp>
#endif

#endif
