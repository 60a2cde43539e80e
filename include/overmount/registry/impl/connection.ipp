#ifndef OVERMOUNT_REGISTRY_IMPL_CONNECTION_IPP
#define OVERMOUNT_REGISTRY_IMPL_CONNECTION_IPP

#include <overmount/registry/connection.hpp>

#include <overmount/core/error.hpp>
#include <overmount/posix/unique_fd.hpp>
#include <overmount/runtime/job.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

using overmount::detail::async_job;
using overmount::detail::new_shared;

// At most so many addresses of one name are tried.
inline constexpr std::size_t max_addresses = 16;
// A proxy's answer to CONNECT.
inline constexpr std::size_t max_tunnel_answer = 64 * 1024;
// After so many bytes that were there without waiting, a reader lets other handlers of its executor run.
inline constexpr std::size_t bytes_between_yields = 1024 * 1024;

inline error aborted_operation()
{
    return error(boost::asio::error::operation_aborted);
}

inline std::string host_and_port(const std::string& host, std::uint16_t port)
{
    const bool v6 = host.find(':') != std::string::npos;
    return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

// The oldest error of OpenSSL on this thread.
inline error tls_error()
{
    const auto number = static_cast<int>(::ERR_get_error());
    if (number == 0)
        return error(boost::asio::error::connection_aborted);
    return error(boost::system::error_code(number, boost::asio::error::get_ssl_category()));
}

// What OpenSSL's BIO knows about the socket. OpenSSL's own socket BIO raises SIGPIPE.
struct tls_socket
{
    int fd = -1;
    bool ended = false;
    int failure = 0; // errno
};

inline int write_tls_socket(::BIO* bio, const char* data, int size)
{
    auto& socket = *static_cast<tls_socket*>(::BIO_get_data(bio));
    ::BIO_clear_retry_flags(bio);
    const auto count = ::send(socket.fd, data, static_cast<std::size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        ::BIO_set_retry_write(bio);
    else if (count < 0)
        socket.failure = errno;
    return static_cast<int>(count);
}

inline int read_tls_socket(::BIO* bio, char* data, int size)
{
    auto& socket = *static_cast<tls_socket*>(::BIO_get_data(bio));
    ::BIO_clear_retry_flags(bio);
    const auto count = ::recv(socket.fd, data, static_cast<std::size_t>(size), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        ::BIO_set_retry_read(bio);
    else if (count < 0)
        socket.failure = errno;
    socket.ended = count == 0;
    return static_cast<int>(count);
}

inline long control_tls_socket(::BIO* bio, int command, long, void*)
{
    if (command == BIO_CTRL_EOF)
        return static_cast<tls_socket*>(::BIO_get_data(bio))->ended ? 1 : 0;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

inline ::BIO* new_tls_bio(tls_socket& socket)
{
    // Never freed: connections of other threads may outlive static objects.
    static ::BIO_METHOD* const method = [] {
        ::BIO_METHOD* made = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "overmount socket");
        ::BIO_meth_set_write(made, write_tls_socket);
        ::BIO_meth_set_read(made, read_tls_socket);
        ::BIO_meth_set_ctrl(made, control_tls_socket);
        return made;
    }();
    ::BIO* const bio = ::BIO_new(method);
    if (bio == nullptr)
        throw tls_error();
    ::BIO_set_data(bio, &socket);
    ::BIO_set_init(bio, 1);
    return bio;
}

// Adds what the system's file of certificates holds. Errors are no news: the handshake will say that nobody is trusted.
inline void load_trusted_file(::X509_STORE* store)
{
    const char* given = ::secure_getenv(::X509_get_default_cert_file_env());
    ::ERR_set_mark();
    if (::BIO* const file = ::BIO_new_file(given != nullptr ? given : ::X509_get_default_cert_file(), "r")) {
        if (STACK_OF(X509_INFO)* const found = ::PEM_X509_INFO_read_bio(file, nullptr, nullptr, nullptr)) {
            for (int i = 0; i < sk_X509_INFO_num(found); ++i)
                if (::X509* const certificate = sk_X509_INFO_value(found, i)->x509)
                    ::X509_STORE_add_cert(store, certificate);
            sk_X509_INFO_pop_free(found, ::X509_INFO_free);
        }
        ::BIO_free(file);
    }
    ::ERR_pop_to_mark();
}

inline int find_in_trusted_file(::X509_LOOKUP* lookup, ::X509_LOOKUP_TYPE type, const ::X509_NAME* name, ::X509_OBJECT* found)
{
    ::X509_STORE* const store = ::X509_LOOKUP_get_store(lookup);
    std::call_once(*static_cast<std::once_flag*>(::X509_LOOKUP_get_method_data(lookup)), load_trusted_file, store);
    if (type != X509_LU_X509)
        return 0;
    ::X509_STORE_lock(store);
    const ::X509_OBJECT* const known = ::X509_OBJECT_retrieve_by_subject(::X509_STORE_get0_objects(store), type, name);
    ::X509* const certificate = known != nullptr ? ::X509_OBJECT_get0_X509(known) : nullptr;
    // The caller takes a reference of its own; what is found has that of the store.
    const bool is_set = certificate != nullptr && ::X509_OBJECT_set1_X509(found, certificate) == 1;
    if (is_set)
        ::X509_free(certificate);
    ::X509_STORE_unlock(store);
    return is_set ? 1 : 0;
}

// The certificates that the system trusts: by their hashes in a directory, and only if that has no issuer from the file. To read a
// file of 150 certificates takes 40 ms of processor time, more than pulling a small image.
inline void trust_system(::SSL_CTX* context)
{
    // Never freed, as the BIO's.
    static ::X509_LOOKUP_METHOD* const method = [] {
        ::X509_LOOKUP_METHOD* made = ::X509_LOOKUP_meth_new("overmount file of certificates");
        ::X509_LOOKUP_meth_set_new_item(made, [](::X509_LOOKUP* lookup) {
            return ::X509_LOOKUP_set_method_data(lookup, new (std::nothrow) std::once_flag);
        });
        ::X509_LOOKUP_meth_set_free(made, [](::X509_LOOKUP* lookup) {
            delete static_cast<std::once_flag*>(::X509_LOOKUP_get_method_data(lookup));
        });
        ::X509_LOOKUP_meth_set_get_by_subject(made, find_in_trusted_file);
        return made;
    }();
    ::SSL_CTX_set_default_verify_dir(context);
    ::X509_STORE_add_lookup(::SSL_CTX_get_cert_store(context), method);
}

struct ssl_deleter
{
    void operator()(::SSL* ssl) const noexcept { ::SSL_free(ssl); }
};

// Resolves a name. A cancellation or the deadline ends it at once, although getaddrinfo goes on.
class resolve_job final : public async_job
{
public:
    using results = boost::asio::ip::tcp::resolver::results_type;
    using time_point = connection::time_point;

    resolve_job(const boost::asio::any_io_executor& executor, std::string host, std::uint16_t port, time_point deadline)
        : resolver_(executor), timer_(executor, deadline), host_(std::move(host)), port_(std::to_string(port))
    {
    }
    [[nodiscard]] const results& found() const noexcept { return results_; }

private:
    std::shared_ptr<resolve_job> self() { return std::static_pointer_cast<resolve_job>(shared_from_this()); }
    void start() override
    {
        // The handlers must not keep the job alive: with it, its resolver and timer stop.
        const std::weak_ptr<resolve_job> weak = self();
        timer_.async_wait([weak](boost::system::error_code failed) {
            const auto live = weak.lock();
            if (live && !failed)
                live->complete(std::make_exception_ptr(error(boost::asio::error::timed_out)));
        });
        using flags = boost::asio::ip::resolver_base;
        resolver_.async_resolve(host_, port_, flags::numeric_service | flags::address_configured,
                                [weak](boost::system::error_code failed, results found) {
                                    const auto live = weak.lock();
                                    if (!live)
                                        return;
                                    live->results_ = std::move(found);
                                    live->complete(failed ? std::make_exception_ptr(error(failed)) : std::exception_ptr());
                                });
    }
    void cancel() noexcept override { complete(std::make_exception_ptr(aborted_operation())); }

    boost::asio::ip::tcp::resolver resolver_;
    boost::asio::steady_timer timer_;
    std::string host_, port_;
    results results_;
};

inline boost::asio::awaitable<std::vector<boost::asio::ip::tcp::endpoint>> resolve_host(std::string host, std::uint16_t port,
                                                                                       connection::time_point deadline)
{
    std::vector<boost::asio::ip::tcp::endpoint> out;
    boost::system::error_code not_numeric;
    if (const auto address = boost::asio::ip::make_address(host, not_numeric); !not_numeric) {
        out.emplace_back(address, port);
        co_return out;
    }
    const auto job = new_shared<resolve_job>(co_await boost::asio::this_coro::executor, std::move(host), port, deadline);
    std::shared_ptr<async_job> base = job;
    co_await async_job::wait_for(std::move(base));
    for (const auto& entry : job->found())
        if (out.size() < max_addresses)
            out.push_back(entry.endpoint());
    co_return out;
}

inline error connect_failure(boost::system::error_code code, const connection_target& target)
{
    return error(code).at(stage::source).operation("connect").subject(target.name());
}

} // namespace detail

// Operations hold it, so that closing or destroying the handle while one waits is harmless.
class connection::transport : public std::enable_shared_from_this<transport>
{
public:
    using wait_type = boost::asio::posix::descriptor_base::wait_type;

    ~transport() { close(); }

    [[nodiscard]] bool is_open() const noexcept { return socket_.has_value(); }
    [[nodiscard]] bool ended_uncleanly() const noexcept { return unclean_; }

    void close() noexcept
    {
        ++waits_;
        ssl_.reset();
        timer_.reset();
        socket_.reset();
    }

    bool is_quiet() noexcept
    {
        try {
            std::byte one{};
            std::size_t count = 0;
            return is_open() && try_read({&one, 1}, count) == progress::want_read;
        } catch (const error&) {
            return false;
        }
    }

    static boost::asio::awaitable<std::size_t> read_some(std::shared_ptr<transport> self, std::span<std::byte> into, time_point deadline)
    {
        try {
            if (self->without_wait_ >= detail::bytes_between_yields) {
                self->without_wait_ = 0;
                co_await boost::asio::post(co_await boost::asio::this_coro::executor, boost::asio::use_awaitable);
            }
            for (;;) {
                std::size_t count = 0;
                const progress now = self->is_open() ? self->try_read(into, count) : throw detail::aborted_operation();
                self->without_wait_ += count;
                if (now == progress::done || now == progress::ended)
                    co_return count;
                co_await wait(self, now, deadline);
            }
        } catch (...) {
            self->close();
            throw;
        }
    }

    static boost::asio::awaitable<void> write(std::shared_ptr<transport> self, std::string bytes, time_point deadline)
    {
        try {
            for (std::string_view rest = bytes; !rest.empty();) {
                const progress now = self->is_open() ? self->try_write(rest) : throw detail::aborted_operation();
                if (now != progress::done)
                    co_await wait(self, now, deadline);
            }
        } catch (...) {
            self->close();
            throw;
        }
    }

    static boost::asio::awaitable<void> connect(std::shared_ptr<transport> self, boost::asio::generic::stream_protocol::endpoint to,
                                                time_point deadline)
    {
        self->close();
        const auto executor = co_await boost::asio::this_coro::executor;
        const int family = to.protocol().family();
        // Asio's sockets lack SOCK_CLOEXEC.
        unique_fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!fd)
            throw error::from_errno(errno);
        const int on = 1;
        if (family != AF_UNIX)
            (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        self->timer_.emplace(executor);
        self->socket_.emplace(executor);
        self->socket_->assign(fd.get());
        self->tls_socket_.fd = fd.release();
        if (::connect(self->tls_socket_.fd, to.data(), static_cast<socklen_t>(to.size())) == 0)
            co_return;
        if (errno != EINPROGRESS)
            throw error::from_errno(errno);
        co_await wait(self, progress::want_write, deadline);
        int failure = 0;
        socklen_t size = sizeof failure;
        if (::getsockopt(self->tls_socket_.fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0)
            failure = errno;
        if (failure != 0)
            throw error::from_errno(failure);
    }

    // Tries the addresses in order.
    static boost::asio::awaitable<void> connect_host(std::shared_ptr<transport> self, std::string host, std::uint16_t port,
                                                     time_point deadline)
    {
        const auto state = co_await boost::asio::this_coro::cancellation_state;
        const auto addresses = co_await detail::resolve_host(std::move(host), port, deadline);
        std::exception_ptr failure = std::make_exception_ptr(error(boost::asio::error::host_not_found));
        for (std::size_t i = 0; i < addresses.size(); ++i) {
            const auto now = std::chrono::steady_clock::now();
            const auto share = (deadline - now) / static_cast<int>(addresses.size() - i);
            try {
                co_await connect(self, boost::asio::generic::stream_protocol::endpoint(addresses[i]), now + share);
                co_return;
            } catch (const boost::system::system_error&) {
                failure = std::current_exception();
            }
            if (state.cancelled() != boost::asio::cancellation_type::none)
                break;
        }
        std::rethrow_exception(failure);
    }

    // Asks the proxy for a tunnel.
    static boost::asio::awaitable<void> open_tunnel(std::shared_ptr<transport> self, connection_target target, time_point deadline)
    {
        const std::string& authorization = target.proxy()->authorization();
        if (authorization.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos)
            throw error(errc::invalid_settings).detail("the authorization for the proxy has control characters");
        std::string request = "CONNECT " + target.name() + " HTTP/1.1\r\nHost: " + target.name() +
                              "\r\nUser-Agent: overmount/" OVERMOUNT_VERSION "\r\n";
        if (!authorization.empty())
            request += "Proxy-Authorization: " + authorization + "\r\n";
        request += "\r\n";
        co_await write(self, std::move(request), deadline);
        std::string head;
        std::array<std::byte, 4096> chunk;
        while (head.find("\r\n\r\n") == std::string::npos) {
            const std::size_t count = co_await read_some(self, chunk, deadline);
            if (count == 0 || head.size() > detail::max_tunnel_answer)
                throw error(errc::malformed_answer).detail("the proxy's answer to CONNECT has no end");
            head.append(reinterpret_cast<const char*>(chunk.data()), count);
        }
        check_tunnel(head);
    }

    static boost::asio::awaitable<void> shake_hands(std::shared_ptr<transport> self, connection_target target,
                                                    std::shared_ptr<const tls_context> context, time_point deadline)
    {
        self->start_tls(target, *context);
        for (;;) {
            const progress now = self->try_handshake();
            if (now == progress::done)
                co_return;
            co_await wait(self, now, deadline);
        }
    }

private:
    enum class progress
    {
        done,
        ended,
        want_read,
        want_write,
    };

    static void check_tunnel(std::string_view head)
    {
        const bool known = head.starts_with("HTTP/1.0 ") || head.starts_with("HTTP/1.1 ");
        const std::string_view status = head.substr(std::min<std::size_t>(9, head.size()), 3);
        if (!known || status.size() < 3 || status.find_first_not_of("0123456789") != std::string_view::npos)
            throw error(errc::malformed_answer).detail("the proxy's answer to CONNECT is not HTTP");
        if (status == "407")
            throw error(errc::login_refused).detail("the proxy wants other credentials");
        if (status.front() != '2')
            throw error(errc::registry_unavailable).detail("the proxy refuses the connection with status " + std::string(status));
        if (head.find("\r\n\r\n") + 4 != head.size())
            throw error(errc::malformed_answer).detail("the proxy sent bytes before the TLS handshake");
    }

    // Waits until the socket is ready. The caller closes the transport if this throws.
    static boost::asio::awaitable<void> wait(std::shared_ptr<transport> self, progress wanted, time_point deadline)
    {
        const auto state = co_await boost::asio::this_coro::cancellation_state;
        const auto executor = co_await boost::asio::this_coro::executor;
        // Needed if throw_if_cancelled is disabled.
        if (!self->socket_ || state.cancelled() != boost::asio::cancellation_type::none)
            throw detail::aborted_operation();
        const auto number = ++self->waits_;
        self->timed_out_ = false;
        if (deadline != time_point::max()) {
            self->timer_->expires_at(deadline);
            auto expired = [weak = self->weak_from_this(), number](boost::system::error_code failed) {
                if (const auto live = weak.lock(); live && !failed)
                    live->expire(number);
            };
            self->timer_->async_wait(boost::asio::bind_executor(executor, std::move(expired)));
        }
        const wait_type what = wanted == progress::want_write ? wait_type::wait_write : wait_type::wait_read;
        boost::system::error_code failed;
        co_await self->socket_->async_wait(what, boost::asio::redirect_error(boost::asio::use_awaitable, failed));
        ++self->waits_;
        self->without_wait_ = 0;
        if (self->timer_)
            self->timer_->cancel();
        if (!self->socket_ || state.cancelled() != boost::asio::cancellation_type::none)
            throw detail::aborted_operation();
        if (self->timed_out_)
            throw error(boost::asio::error::timed_out);
        if (failed)
            throw error(failed);
    }

    // The number is compared first: a late handler must not touch a connection that another executor uses by now.
    void expire(std::uint64_t number)
    {
        if (waits_ != number)
            return;
        timed_out_ = true;
        boost::system::error_code ignored;
        socket_->cancel(ignored);
    }

    progress try_read(std::span<std::byte> into, std::size_t& count)
    {
        if (ssl_)
            return try_read_tls(into, count);
        for (;;) {
            const auto got = ::recv(tls_socket_.fd, into.data(), into.size(), MSG_DONTWAIT);
            if (got >= 0) {
                count = static_cast<std::size_t>(got);
                return got == 0 ? progress::ended : progress::done;
            }
            if (errno == EAGAIN)
                return progress::want_read;
            if (errno != EINTR)
                throw error::from_errno(errno);
        }
    }

    // Writes the front of `rest` and removes it there.
    progress try_write(std::string_view& rest)
    {
        std::size_t count = 0;
        if (ssl_) {
            ::ERR_clear_error();
            const int result = ::SSL_write_ex(ssl_.get(), rest.data(), rest.size(), &count);
            if (result != 1)
                return tls_progress(result);
        } else {
            const auto sent = ::send(tls_socket_.fd, rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN)
                return progress::want_write;
            if (sent < 0 && errno != EINTR)
                throw error::from_errno(errno);
            count = sent < 0 ? 0 : static_cast<std::size_t>(sent);
        }
        rest.remove_prefix(count);
        return progress::done;
    }

    void start_tls(const connection_target& target, const tls_context& context)
    {
        ::ERR_clear_error();
        ssl_.reset(::SSL_new(context.native()));
        if (!ssl_)
            throw detail::tls_error();
        ::BIO* const bio = detail::new_tls_bio(tls_socket_);
        ::SSL_set_bio(ssl_.get(), bio, bio);
        std::string host = target.host();
        if (host.ends_with('.')) // it is no part of the names in certificates
            host.pop_back();
        boost::system::error_code not_numeric;
        (void)boost::asio::ip::make_address(host, not_numeric);
        const bool address = !not_numeric;
        bool set = address || ::SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, host.data()) == 1;
        if (target.tls()->verify()) {
            ::SSL_set_verify(ssl_.get(), SSL_VERIFY_PEER, nullptr);
            ::SSL_set_hostflags(ssl_.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
            set = set && (address ? ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl_.get()), host.c_str())
                                  : ::SSL_set1_host(ssl_.get(), host.c_str())) == 1;
        }
        if (!set)
            throw detail::tls_error();
    }

    progress try_handshake()
    {
        if (!ssl_)
            throw detail::aborted_operation();
        ::ERR_clear_error();
        const int result = ::SSL_connect(ssl_.get());
        if (result == 1)
            return progress::done;
        try {
            if (const progress now = tls_progress(result); now != progress::ended)
                return now;
            throw error(boost::asio::error::connection_reset).detail("the server ended the TLS handshake");
        } catch (error& failure) {
            if (const long why = ::SSL_get_verify_result(ssl_.get()); why != X509_V_OK && target_is_verified())
                failure.detail(::X509_verify_cert_error_string(why));
            throw;
        }
    }
    bool target_is_verified() const noexcept { return ::SSL_get_verify_mode(ssl_.get()) != SSL_VERIFY_NONE; }

    // All records that OpenSSL has already, since each holds at most 16 KiB.
    progress try_read_tls(std::span<std::byte> into, std::size_t& count)
    {
        if (unclean_)
            return progress::ended;
        if (failure_)
            throw *failure_;
        do {
            std::size_t got = 0;
            ::ERR_clear_error();
            const int result = ::SSL_read_ex(ssl_.get(), into.data() + count, into.size() - count, &got);
            if (result == 1) {
                count += got;
                continue;
            }
            try {
                const progress now = tls_progress(result);
                return count > 0 ? progress::done : now;
            } catch (const error& failure) {
                if (count == 0)
                    throw;
                failure_ = failure; // for the next read
                return progress::done;
            }
        } while (count < into.size() && ::SSL_has_pending(ssl_.get()) == 1);
        return progress::done;
    }

    // What the result of a failed call of OpenSSL means.
    progress tls_progress(int result)
    {
        switch (::SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ: return progress::want_read;
        case SSL_ERROR_WANT_WRITE: return progress::want_write;
        case SSL_ERROR_ZERO_RETURN: return progress::ended;
        case SSL_ERROR_SYSCALL:
            if (tls_socket_.failure != 0)
                throw error::from_errno(tls_socket_.failure);
            throw detail::tls_error();
        default:
            if (ERR_GET_REASON(::ERR_peek_error()) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
                throw detail::tls_error();
            unclean_ = true;
            return progress::ended;
        }
    }

    std::optional<boost::asio::posix::stream_descriptor> socket_;
    std::optional<boost::asio::steady_timer> timer_;
    detail::tls_socket tls_socket_; // `fd` also without TLS
    std::unique_ptr<::SSL, detail::ssl_deleter> ssl_;
    std::optional<error> failure_;
    bool unclean_ = false, timed_out_ = false;
    std::size_t without_wait_ = 0;          // bytes read since the last wait
    std::atomic<std::uint64_t> waits_ = 0; // changes when a wait begins and ends
};

OVERMOUNT_DECL std::string connection_target::name() const
{
    return unix_path_.empty() ? detail::host_and_port(host_, port_) : unix_path_;
}

OVERMOUNT_DECL tls_context::tls_context(const tls_settings& settings)
{
    ::ERR_clear_error();
    std::unique_ptr<::SSL_CTX, void (*)(::SSL_CTX*)> made(::SSL_CTX_new(::TLS_client_method()), ::SSL_CTX_free);
    if (!made)
        throw detail::tls_error();
    const auto require = [](bool fits, const std::string& file, const char* why) {
        if (!fits)
            throw error(errc::invalid_settings).at(stage::source).operation("load").subject(file).detail(why);
    };
    ::SSL_CTX_set_min_proto_version(made.get(), TLS1_2_VERSION);
    ::SSL_CTX_set_options(made.get(), SSL_OP_NO_RENEGOTIATION);
    ::SSL_CTX_set_mode(made.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
    // One call of recv for several records.
    ::SSL_CTX_set_read_ahead(made.get(), 1);
    ::SSL_CTX_set_default_read_buffer_len(made.get(), 64 * 1024);
    // OpenSSL would ask for the passphrase of a key on the terminal.
    ::SSL_CTX_set_default_passwd_cb(made.get(), [](char*, int, int, void*) { return 0; });
    if (settings.verify()) {
        detail::trust_system(made.get());
        for (const std::string& file : settings.ca_files())
            require(::SSL_CTX_load_verify_file(made.get(), file.c_str()) == 1, file, "no certificates can be read from it");
        // As clients in Go do: what a user trusts need not be a root.
        ::X509_VERIFY_PARAM_set_flags(::SSL_CTX_get0_param(made.get()), X509_V_FLAG_PARTIAL_CHAIN);
    }
    if (const std::string& certificate = settings.certificate_file(); !certificate.empty()) {
        require(::SSL_CTX_use_certificate_chain_file(made.get(), certificate.c_str()) == 1, certificate,
                "the client's certificate cannot be read from it");
        require(::SSL_CTX_use_PrivateKey_file(made.get(), settings.key_file().c_str(), SSL_FILETYPE_PEM) == 1, settings.key_file(),
                "it has no key without a passphrase that fits the client's certificate");
    }
    ::ERR_clear_error();
    native_ = made.release();
}

OVERMOUNT_DECL tls_context::~tls_context()
{
    ::SSL_CTX_free(native_);
}

OVERMOUNT_DECL connection::connection(std::shared_ptr<transport> owned) noexcept : transport_(std::move(owned)) {}

OVERMOUNT_DECL connection& connection::operator=(connection&& other) noexcept
{
    if (this != &other) {
        close();
        transport_ = std::move(other.transport_);
    }
    return *this;
}

OVERMOUNT_DECL connection::~connection()
{
    close();
}

OVERMOUNT_DECL boost::asio::awaitable<connection> connection::open(connection_target target, connection_options options)
{
    const auto deadline = std::chrono::steady_clock::now() + options.time_limit();
    connection out(overmount::detail::new_shared<transport>());
    try {
        const std::shared_ptr<transport> self = out.transport_;
        if (!target.unix_path().empty()) {
            const boost::asio::local::stream_protocol::endpoint path(target.unix_path());
            co_await transport::connect(self, boost::asio::generic::stream_protocol::endpoint(path), deadline);
            co_return out;
        }
        // Before connecting, because it may fail.
        std::shared_ptr<const tls_context> context = options.context();
        if (target.tls() && !context)
            context = overmount::detail::new_shared<const tls_context>(*target.tls());
        const bool proxied = target.proxy().has_value();
        co_await transport::connect_host(self, proxied ? target.proxy()->host() : target.host(),
                                         proxied ? target.proxy()->port() : target.port(), deadline);
        if (target.tls() && proxied)
            co_await transport::open_tunnel(self, target, deadline);
        if (target.tls())
            co_await transport::shake_hands(self, target, std::move(context), deadline);
        co_return out;
    } catch (const error& known) {
        if (known.code() == errc::invalid_settings)
            throw;
        throw detail::connect_failure(known.code(), target).detail(known.detail());
    } catch (const boost::system::system_error& other) {
        throw detail::connect_failure(other.code(), target);
    }
}

OVERMOUNT_DECL boost::asio::awaitable<std::size_t> connection::read_some(std::span<std::byte> into, time_point deadline)
{
    if (!transport_)
        throw error(errc::invalid_handle);
    return transport::read_some(transport_, into, deadline);
}

OVERMOUNT_DECL bool connection::ended_uncleanly() const noexcept
{
    return transport_ && transport_->ended_uncleanly();
}

OVERMOUNT_DECL boost::asio::awaitable<void> connection::write(std::string bytes, time_point deadline)
{
    if (!transport_)
        throw error(errc::invalid_handle);
    return transport::write(transport_, std::move(bytes), deadline);
}

OVERMOUNT_DECL bool connection::is_quiet() noexcept
{
    return transport_ && transport_->is_quiet();
}

OVERMOUNT_DECL bool connection::is_open() const noexcept
{
    return transport_ && transport_->is_open();
}

OVERMOUNT_DECL void connection::close() noexcept
{
    if (transport_)
        transport_->close();
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif
