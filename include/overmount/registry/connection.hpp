#ifndef OVERMOUNT_REGISTRY_CONNECTION_HPP
#define OVERMOUNT_REGISTRY_CONNECTION_HPP

#include <overmount/core/config.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

struct ssl_ctx_st; // OpenSSL's SSL_CTX

namespace overmount::OVERMOUNT_ABI::registry {

/// How a server's certificate is checked, and which certificate the client shows. The files are PEM.
class tls_settings
{
public:
    /// Whether the server's certificate must be valid for the host; true by default.
    tls_settings& verify(bool on)
    {
        verify_ = on;
        return *this;
    }
    /// Adds a file of certificates that are trusted besides those of the system. They need not be roots.
    tls_settings& ca_file(std::string path)
    {
        ca_files_.push_back(std::move(path));
        return *this;
    }
    /// Sets the client's certificate (with its chain) and its key, which must not have a passphrase.
    tls_settings& client_certificate(std::string certificate_file, std::string key_file)
    {
        certificate_ = std::move(certificate_file);
        key_ = std::move(key_file);
        return *this;
    }

    [[nodiscard]] bool verify() const noexcept { return verify_; }
    [[nodiscard]] const std::vector<std::string>& ca_files() const noexcept { return ca_files_; }
    [[nodiscard]] const std::string& certificate_file() const noexcept { return certificate_; }
    [[nodiscard]] const std::string& key_file() const noexcept { return key_; }

    friend bool operator==(const tls_settings&, const tls_settings&) = default;
    friend std::strong_ordering operator<=>(const tls_settings&, const tls_settings&) = default;

private:
    bool verify_ = true;
    std::vector<std::string> ca_files_;
    std::string certificate_, key_;
};

/// The loaded form of `tls_settings`: expensive to create, immutable, and shared by connections of any thread.
class tls_context
{
public:
    /// Reads the files. Throws `error` with `errc::invalid_settings`, whose subject is the file, if one cannot be used.
    explicit tls_context(const tls_settings& settings);
    tls_context(const tls_context&) = delete;
    tls_context& operator=(const tls_context&) = delete;
    ~tls_context();

    [[nodiscard]] ssl_ctx_st* native() const noexcept { return native_; }

private:
    ssl_ctx_st* native_;
};

/// A HTTP proxy. Its authorization is a secret: it must not be printed.
class proxy_server
{
public:
    /// \param host a name or an address without brackets
    /// \param authorization the value of the header Proxy-Authorization, or empty
    proxy_server(std::string host, std::uint16_t port, std::string authorization = {})
        : host_(std::move(host)), port_(port), authorization_(std::move(authorization))
    {
    }
    [[nodiscard]] const std::string& host() const noexcept { return host_; }
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    [[nodiscard]] const std::string& authorization() const noexcept { return authorization_; }

    friend bool operator==(const proxy_server&, const proxy_server&) = default;
    friend std::strong_ordering operator<=>(const proxy_server&, const proxy_server&) = default;

private:
    std::string host_;
    std::uint16_t port_;
    std::string authorization_;
};

/// Where a connection leads, and how. Connections to equal targets are interchangeable.
class connection_target
{
public:
    /// Plain TCP. \param host a name or an address without brackets
    [[nodiscard]] static connection_target plain(std::string host, std::uint16_t port)
    {
        return connection_target(std::move(host), port);
    }
    /// TLS over TCP. \param host a name or an address without brackets; the certificate must be valid for it
    [[nodiscard]] static connection_target tls(std::string host, std::uint16_t port, tls_settings settings = {})
    {
        connection_target out(std::move(host), port);
        out.tls_ = std::move(settings);
        return out;
    }
    /// A unix socket without TLS. \param path at most 107 bytes
    [[nodiscard]] static connection_target unix_socket(std::string path)
    {
        connection_target out({}, 0);
        out.unix_path_ = std::move(path);
        return out;
    }
    /// Goes through a proxy: with TLS by CONNECT; without, the connection leads to the proxy, and requests are in absolute form.
    /// A unix socket ignores it.
    connection_target& proxy(proxy_server server)
    {
        proxy_ = std::move(server);
        return *this;
    }

    [[nodiscard]] const std::string& host() const noexcept { return host_; }
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    /// Empty unless it is a unix socket.
    [[nodiscard]] const std::string& unix_path() const noexcept { return unix_path_; }
    [[nodiscard]] const std::optional<tls_settings>& tls() const noexcept { return tls_; }
    [[nodiscard]] const std::optional<proxy_server>& proxy() const noexcept { return proxy_; }
    /// Whether requests are sent to a proxy, in absolute form and with its authorization.
    [[nodiscard]] bool wants_absolute_form() const noexcept { return proxy_ && !tls_ && unix_path_.empty(); }
    /// `host:port`, with brackets around an IPv6 address, or the path of the unix socket.
    [[nodiscard]] std::string name() const;

    friend bool operator==(const connection_target&, const connection_target&) = default;
    friend std::strong_ordering operator<=>(const connection_target&, const connection_target&) = default;

private:
    connection_target(std::string host, std::uint16_t port) : host_(std::move(host)), port_(port) {}

    std::string host_;
    std::uint16_t port_;
    std::string unix_path_;
    std::optional<tls_settings> tls_;
    std::optional<proxy_server> proxy_;
};

class connection_options
{
public:
    /// The limit for resolving the name, connecting, the proxy's CONNECT and the TLS handshake together; 30 seconds by default.
    connection_options& time_limit(std::chrono::milliseconds limit)
    {
        time_limit_ = limit;
        return *this;
    }
    /// A loaded form of the target's `tls_settings`. Without it, `open` loads them.
    connection_options& context(std::shared_ptr<const tls_context> loaded)
    {
        context_ = std::move(loaded);
        return *this;
    }
    [[nodiscard]] std::chrono::milliseconds time_limit() const noexcept { return time_limit_; }
    [[nodiscard]] const std::shared_ptr<const tls_context>& context() const noexcept { return context_; }

private:
    std::chrono::milliseconds time_limit_ = std::chrono::seconds(30);
    std::shared_ptr<const tls_context> context_;
};

/// Bytes to and from a server: over TCP, TLS, a proxy's tunnel or a unix socket.
///
/// *Errors*: an operation that fails or is cancelled closes the connection. It throws `error` with the code of the kernel, the resolver
/// or OpenSSL; with `timed_out` after its deadline; and with `operation_aborted` if it was cancelled or the connection was closed
/// meanwhile.
/// *Cancellation*: all types that the coroutine lets through take effect at once.
/// *Concurrency*: one operation at a time, on an executor that runs one handler at a time; later operations may use another executor.
class connection
{
public:
    using time_point = std::chrono::steady_clock::time_point;

    /// An empty handle: not open.
    connection() = default;
    connection(connection&& other) noexcept = default;
    connection& operator=(connection&& other) noexcept;
    ~connection();

    /// Connects. All addresses of the name are tried in order; each gets an equal share of the remaining time.
    ///
    /// The executor's context is kept busy until the resolver has answered, also after a cancellation: getaddrinfo, which runs on a thread
    /// of Asio, cannot be stopped.
    ///
    /// *Errors*: also `errc::invalid_settings` (TLS files), `errc::login_refused` (the proxy wants other credentials),
    /// `errc::registry_unavailable` (the proxy refuses the tunnel) and `errc::malformed_answer` (of the proxy).
    [[nodiscard]] static boost::asio::awaitable<connection> open(connection_target target, connection_options options);

    /// Reads at least one byte, or returns 0 at the end.
    /// \param into not empty; it must stay valid until the operation ends
    [[nodiscard]] boost::asio::awaitable<std::size_t> read_some(std::span<std::byte> into, time_point deadline = time_point::max());
    /// Whether a TLS connection ended without the server's close_notify: somebody else may have cut it.
    [[nodiscard]] bool ended_uncleanly() const noexcept;

    /// Writes all bytes.
    [[nodiscard]] boost::asio::awaitable<void> write(std::string bytes, time_point deadline = time_point::max());

    /// Whether it is open and the server has neither closed it nor sent anything since the last read. Does not wait.
    [[nodiscard]] bool is_quiet() noexcept;
    [[nodiscard]] bool is_open() const noexcept;
    /// Closes the connection; an operation that waits ends. It then holds nothing that belongs to an execution context.
    void close() noexcept;

private:
    class transport;
    explicit connection(std::shared_ptr<transport> owned) noexcept;
    std::shared_ptr<transport> transport_;
};

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/connection.ipp>
#endif

#endif
