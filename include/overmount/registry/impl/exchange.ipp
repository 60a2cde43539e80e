#ifndef OVERMOUNT_REGISTRY_IMPL_EXCHANGE_IPP
#define OVERMOUNT_REGISTRY_IMPL_EXCHANGE_IPP

#include <overmount/registry/ascii.hpp>
#include <overmount/registry/exchange.hpp>

#include <overmount/core/error.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <utility>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline bool is_http_token(std::string_view text) noexcept
{
    return !text.empty() && text.find_first_not_of("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") ==
                                std::string_view::npos;
}

inline bool is_header_text(std::string_view text) noexcept
{
    return std::none_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return (byte < 0x20 && c != '\t') || byte == 0x7f;
    });
}

inline error unsendable_request(std::string_view why)
{
    return error(boost::system::errc::make_error_code(boost::system::errc::invalid_argument)).detail(why);
}

// The bytes of the request.
inline std::string request_bytes(const request& what, const connection_target& target)
{
    const std::string& method = what.method();
    if (!is_http_token(method))
        throw unsendable_request("the method is not a token");
    std::string out = method + " " + (target.wants_absolute_form() ? what.url().origin() : std::string()) + what.url().target() +
                      " HTTP/1.1\r\nHost: " + what.url().authority() + "\r\nUser-Agent: overmount/" OVERMOUNT_VERSION "\r\n";
    const auto add = [&out](std::string_view name, std::string_view value) {
        if (!is_http_token(name) || !is_header_text(value))
            throw unsendable_request("a header has characters that HTTP does not allow");
        out.append(name).append(": ").append(value).append("\r\n");
    };
    if (target.wants_absolute_form() && !target.proxy()->authorization().empty())
        add("Proxy-Authorization", target.proxy()->authorization());
    for (const auto& [name, value] : what.headers()) {
        if (belongs_to_exchange(name))
            throw unsendable_request("a header belongs to the exchange");
        add(name, value);
    }
    // See RFC 9110, section 8.6: methods that expect a body say that there is none.
    if (!what.body().empty() || method == "POST" || method == "PUT" || method == "PATCH")
        add("Content-Length", std::to_string(what.body().size()));
    return out + "\r\n" + what.body();
}

// Parses one answer. The body of an answer in chunks is copied to `sink`; others are read without the parser.
class answer_parser final : public boost::beast::http::basic_parser<false>
{
public:
    explicit answer_parser(bool of_head_request)
    {
        header_limit(static_cast<std::uint32_t>(max_head_bytes));
        body_limit(boost::none);
        skip(of_head_request);
    }

    // Parses bytes of the front of `in`, and returns how many. Zero: it needs more bytes, or space in the sink.
    std::size_t parse(std::string_view in)
    {
        std::size_t used = 0;
        const bool in_head = !is_header_done();
        while (used < in.size() && !is_done() && is_header_done() != in_head) {
            // Nothing shorter is complete, and Beast 1.81 asserts if it sees "0\r\n" again with one more byte.
            if (!in_head && in_chunk_ == 0 && in.size() - used < std::string_view("0\r\n\r\n").size())
                break;
            boost::beast::error_code failed;
            const std::size_t count = put({in.data() + used, in.size() - used}, failed);
            used += count;
            if (failed == boost::beast::http::error::need_more || (!failed && count == 0))
                break;
            if (failed)
                throw error(errc::malformed_answer).detail(failed.message());
        }
        return used;
    }

    std::span<std::byte> sink;
    unsigned status = 0;
    int version = 0; // 10 or 11
    header_list headers;

private:
    using failure = boost::beast::error_code;
    using text = boost::beast::string_view;

    void on_request_impl(boost::beast::http::verb, text, text, int, failure&) override {}
    void on_response_impl(int code, text, int of_http, failure&) override
    {
        status = static_cast<unsigned>(code);
        version = of_http;
    }
    void on_field_impl(boost::beast::http::field, text name, text value, failure&) override
    {
        if (!is_header_done()) // not a trailer
            headers.emplace_back(std::string(name.data(), name.size()), std::string(value.data(), value.size()));
    }
    void on_header_impl(failure&) override {}
    void on_body_init_impl(const boost::optional<std::uint64_t>&, failure&) override {}
    std::size_t on_body_impl(text, failure&) override { return 0; }
    void on_chunk_header_impl(std::uint64_t size, text, failure&) override { in_chunk_ = size; }
    std::size_t on_chunk_body_impl(std::uint64_t, text body, failure&) override
    {
        const std::size_t count = std::min(sink.size(), body.size());
        if (count > 0)
            std::memcpy(sink.data(), body.data(), count);
        sink = sink.subspan(count);
        in_chunk_ -= count;
        return count;
    }
    void on_finish_impl(failure&) override {}

    std::uint64_t in_chunk_ = 0; // bytes of the current chunk that are not parsed yet
};

// Throws if two readers could see different ends of the body: request smuggling, RFC 9112, section 11.2. Beast refuses different lengths.
inline void check_framing(const answer_head& head, int version)
{
    const auto codings = head.headers("Transfer-Encoding");
    if (codings.empty())
        return;
    if (codings.size() > 1 || !equal_ignoring_case(codings.front(), "chunked") || version < 11)
        throw error(errc::malformed_answer).detail("a transfer coding that was not asked for");
    if (head.header("Content-Length"))
        throw error(errc::malformed_answer).detail("both Content-Length and Transfer-Encoding");
}

} // namespace detail

// Operations hold it, so that destroying the exchange while one waits is harmless.
class exchange::state
{
public:
    using time_point = connection::time_point;

    state(const request& what, const connection_target& target, const exchange_options& options)
        : options_(options), method_(what.method()), subject_(what.url().without_query()), repeatable_(what.repeatable())
    {
        try {
            bytes_ = detail::request_bytes(what, target);
        } catch (...) {
            rethrow();
        }
    }

    [[nodiscard]] const answer_head& head() const noexcept { return head_; }
    [[nodiscard]] bool is_complete() const noexcept { return body_ == body::complete; }
    void close() noexcept { lease_ = {}; }

    static boost::asio::awaitable<void> send(std::shared_ptr<state> self, connection_pool* pool, connection_target target)
    {
        try {
            self->lease_ = co_await pool->acquire(std::move(target), self->options_.connecting());
            bool answered = true;
            if (self->lease_.is_reused() && self->repeatable_) {
                try {
                    co_await transact(self, self->bytes_);
                } catch (const boost::system::system_error& failure) {
                    if (self->got_some_ || failure.code() == boost::asio::error::timed_out ||
                        failure.code() == boost::asio::error::operation_aborted)
                        throw;
                    answered = false;
                }
                if (answered)
                    co_return;
                co_await self->lease_.reopen();
            }
            co_await transact(self, std::move(self->bytes_));
        } catch (...) {
            self->rethrow();
        }
    }

    static boost::asio::awaitable<std::size_t> read_some(std::shared_ptr<state> self, std::span<std::byte> into, time_point deadline)
    {
        try {
            if (self->is_complete() || into.empty())
                co_return 0;
            if (!self->lease_)
                throw error(errc::truncated_stream).detail("the connection was closed");
            std::size_t count = 0;
            if (self->body_ == body::chunked) {
                while (!self->take_chunked(into, count))
                    if (!co_await fill(self, deadline))
                        throw self->truncated();
            } else {
                count = self->take_buffered(into);
                if (count == 0)
                    count = co_await self->lease_->read_some(into.first(self->limit(into.size())), deadline);
                self->count_plain(count);
            }
            co_return count;
        } catch (...) {
            self->rethrow();
        }
    }

    static boost::asio::awaitable<std::string> read_all(std::shared_ptr<state> self, std::size_t limit)
    {
        try {
            std::string out;
            for (;;) {
                if (out.size() > limit || (self->body_ == body::sized && self->remaining_ > limit - out.size()))
                    throw error(errc::malformed_answer).detail("the answer's body is too large");
                const std::size_t old = out.size();
                out.resize(old + std::min(limit - old, read_all_step) + 1);
                const auto space = std::as_writable_bytes(std::span<char>(out)).subspan(old);
                const std::size_t count = co_await read_some(self, space, self->next_stall());
                out.resize(old + count);
                if (count == 0)
                    co_return out;
            }
        } catch (...) {
            self->rethrow();
        }
    }

    static boost::asio::awaitable<void> drain(std::shared_ptr<state> self)
    {
        if (self->body_ != body::sized || self->remaining_ > max_drained_bytes) {
            self->close();
            co_return;
        }
        const auto deadline = std::min(self->next_stall(), std::chrono::steady_clock::now() + std::chrono::seconds(1));
        try {
            std::array<std::byte, 4096> dropped;
            while (!self->is_complete())
                co_await read_some(self, dropped, deadline);
        } catch (const boost::system::system_error& failure) {
            if (failure.code() == boost::asio::error::operation_aborted)
                throw;
        }
    }

    [[nodiscard]] time_point next_stall() const { return std::chrono::steady_clock::now() + options_.stall(); }

private:
    enum class body
    {
        complete,
        sized,
        chunked,
        until_end,
    };
    static constexpr std::size_t read_all_step = 16 * 1024;

    // Leaves a handler: closes the connection, and adds what the error is about.
    [[noreturn]] void rethrow()
    {
        close();
        const auto describe = [this](boost::system::error_code code) {
            return error(code).at(stage::source).operation(method_).subject(subject_);
        };
        try {
            throw;
        } catch (const error& known) {
            if (known.code() == errc::invalid_settings && !known.subject().empty()) // it names the file
                throw;
            throw describe(known.code()).detail(known.detail());
        } catch (const boost::system::system_error& other) {
            throw describe(other.code());
        }
    }
    static error truncated() { return error(errc::truncated_stream).detail("the connection ended before the answer"); }

    // Sends the request and reads the head of the answer.
    static boost::asio::awaitable<void> transact(std::shared_ptr<state> self, std::string bytes)
    {
        const auto deadline = std::chrono::steady_clock::now() + self->options_.head_limit();
        co_await self->lease_->write(std::move(bytes), deadline);
        std::size_t size = 0; // of all heads
        do {
            self->parser_ = std::make_unique<detail::answer_parser>(self->method_ == "HEAD");
            while (!self->take_head(size))
                if (!co_await fill(self, deadline))
                    throw truncated();
        } while (self->parser_->status < 200);
        self->start_body();
    }

    std::string_view buffered() const noexcept { return {buffer_.get() + begin_, end_ - begin_}; }

    // Reads more into the buffer; false at the end of the connection.
    static boost::asio::awaitable<bool> fill(std::shared_ptr<state> self, time_point deadline)
    {
        if (self->end_ - self->begin_ == max_head_bytes)
            throw error(errc::malformed_answer).detail("the header of a chunk is too long");
        if (self->begin_ > 0) {
            std::memmove(self->buffer_.get(), self->buffer_.get() + self->begin_, self->end_ - self->begin_);
            self->end_ -= std::exchange(self->begin_, 0);
        }
        const auto space = std::as_writable_bytes(std::span<char>(self->buffer_.get() + self->end_, max_head_bytes - self->end_));
        const std::size_t count = co_await self->lease_->read_some(space, deadline);
        self->end_ += count;
        self->got_some_ = self->got_some_ || count > 0;
        co_return count > 0;
    }

    // Whether the head is complete. `size` counts its bytes.
    bool take_head(std::size_t& size)
    {
        const std::size_t used = parser_->parse(buffered());
        begin_ += used;
        size += used;
        const bool done = parser_->is_header_done();
        if (done ? size > max_head_bytes : size + buffered().size() >= max_head_bytes)
            throw error(errc::malformed_answer).detail("the headers are too long");
        if (done && (parser_->status < 100 || parser_->status == 101))
            throw error(errc::malformed_answer).detail("a status that no request asks for");
        return done;
    }

    void start_body()
    {
        const auto length = parser_->content_length();
        head_ = answer_head(parser_->status, std::move(parser_->headers), length ? std::optional(*length) : std::nullopt,
                            parser_->keep_alive());
        detail::check_framing(head_, parser_->version);
        if (parser_->is_done())
            return finish();
        remaining_ = length.value_or(0);
        body_ = parser_->chunked() ? body::chunked : length ? body::sized : body::until_end;
    }

    // The answer was read to its end.
    void finish() noexcept
    {
        body_ = body::complete;
        if (head_.keep_alive() && buffered().empty())
            lease_.give_back();
        close();
        parser_.reset();
        begin_ = end_ = 0;
        buffer_.reset();
    }

    // True when there are bytes of the body, or it ended.
    bool take_chunked(std::span<std::byte> into, std::size_t& count)
    {
        parser_->sink = into;
        begin_ += parser_->parse(buffered());
        count = into.size() - parser_->sink.size();
        if (!parser_->is_done())
            return count > 0;
        finish();
        return true;
    }

    std::size_t limit(std::size_t size) const noexcept
    {
        return body_ == body::sized ? static_cast<std::size_t>(std::min<std::uint64_t>(size, remaining_)) : size;
    }
    std::size_t take_buffered(std::span<std::byte> into) noexcept
    {
        const std::size_t count = limit(std::min(into.size(), end_ - begin_));
        if (count > 0)
            std::memcpy(into.data(), buffer_.get() + begin_, count);
        begin_ += count;
        return count;
    }
    void count_plain(std::size_t count)
    {
        if (count == 0 && (body_ == body::sized || lease_->ended_uncleanly()))
            throw truncated();
        if (body_ == body::sized)
            remaining_ -= count;
        if (body_ == body::sized ? remaining_ == 0 : count == 0)
            finish();
    }

    exchange_options options_;
    std::string method_, subject_;
    std::string bytes_; // of the request
    bool repeatable_;
    bool got_some_ = false;
    pooled_connection lease_;
    std::unique_ptr<detail::answer_parser> parser_;
    std::unique_ptr<char[]> buffer_ = std::make_unique<char[]>(max_head_bytes);
    std::size_t begin_ = 0, end_ = 0; // of the bytes that were read and not parsed
    answer_head head_;
    body body_ = body::until_end;
    std::uint64_t remaining_ = 0; // of a body of known size
};

OVERMOUNT_DECL bool belongs_to_exchange(std::string_view header_name) noexcept
{
    for (const char* own : {"Host", "User-Agent", "Connection", "Content-Length", "Transfer-Encoding", "Proxy-Authorization"})
        if (equal_ignoring_case(header_name, own))
            return true;
    return false;
}

OVERMOUNT_DECL std::optional<std::string_view> answer_head::header(std::string_view name) const noexcept
{
    for (const auto& [key, value] : headers_)
        if (equal_ignoring_case(key, name))
            return std::string_view(value);
    return std::nullopt;
}

OVERMOUNT_DECL std::vector<std::string> answer_head::headers(std::string_view name) const
{
    std::vector<std::string> out;
    for (const auto& [key, value] : headers_)
        if (equal_ignoring_case(key, name))
            out.push_back(value);
    return out;
}

OVERMOUNT_DECL exchange::exchange(std::shared_ptr<state> owned) noexcept : state_(std::move(owned)) {}
OVERMOUNT_DECL exchange::exchange(exchange&& other) noexcept = default;

OVERMOUNT_DECL exchange& exchange::operator=(exchange&& other) noexcept
{
    std::swap(state_, other.state_);
    return *this;
}

OVERMOUNT_DECL exchange::~exchange()
{
    if (state_)
        state_->close();
}

OVERMOUNT_DECL boost::asio::awaitable<exchange> exchange::send(connection_pool& pool, connection_target target, request what,
                                                              exchange_options options)
{
    auto self = overmount::detail::new_shared<state>(what, target, options);
    co_await state::send(self, &pool, std::move(target));
    co_return exchange(std::move(self));
}

OVERMOUNT_DECL const answer_head& exchange::head() const noexcept
{
    return state_->head();
}

OVERMOUNT_DECL bool exchange::is_complete() const noexcept
{
    return state_->is_complete();
}

OVERMOUNT_DECL boost::asio::awaitable<std::size_t> exchange::read_some(std::span<std::byte> into)
{
    return state::read_some(state_, into, state_->next_stall());
}

OVERMOUNT_DECL boost::asio::awaitable<std::string> exchange::read_all(std::size_t limit)
{
    return state::read_all(state_, limit);
}

OVERMOUNT_DECL boost::asio::awaitable<void> exchange::drain()
{
    return state::drain(state_);
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
