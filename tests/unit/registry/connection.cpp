#include <overmount/registry/connection.hpp>

#include "scripted_server.hpp"
#include "support/catch.hpp"
#include "support/open_descriptors.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"

#include <overmount/core/error.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fcntl.h>
#include <poll.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using overmount::errc;
using overmount::registry::connection;
using overmount::registry::connection_options;
using overmount::registry::connection_target;
using overmount::registry::proxy_server;
using overmount::registry::tls_settings;
using overmount::test::certificate;
using overmount::test::peer;
using overmount::test::scripted_server;

using clock_type = std::chrono::steady_clock;

// What one connection came to: it sends a text and reads to the end.
class outcome
{
public:
    std::string received;
    bool clean = true;
    std::optional<overmount::error> failure;
    boost::system::error_code code() const { return failure ? failure->code() : boost::system::error_code(); }
    std::string message() const { return failure ? failure->what() : ""; }
};

asio::awaitable<void> talk(outcome* out, connection_target target, connection_options options, std::string text,
                           std::chrono::milliseconds limit)
{
    try {
        connection link = co_await connection::open(std::move(target), std::move(options));
        const auto deadline = clock_type::now() + limit;
        co_await link.write(std::move(text), deadline);
        std::array<std::byte, 1000> into;
        while (const std::size_t count = co_await link.read_some(into, deadline))
            out->received.append(reinterpret_cast<const char*>(into.data()), count);
        out->clean = !link.ended_uncleanly();
    } catch (const overmount::error& failure) {
        out->failure = failure;
    }
}

outcome run(const connection_target& target, const std::string& text = "ping", std::chrono::milliseconds limit = 60s,
            const connection_options& options = {})
{
    outcome out;
    test::run_coroutine(talk(&out, target, options, text, limit));
    return out;
}

connection_target target_of(const scripted_server& server)
{
    return connection_target::plain("127.0.0.1", server.port());
}

void echo(peer& client, int)
{
    client.write("<" + client.read(4) + ">");
}

// A CA and a server that it signed, as files and as a server's settings.
class tls_files
{
public:
    tls_files()
    {
        authority.write(ca_file);
        server.write(server_file);
        stranger.write(stranger_file);
    }
    overmount::test::scratch_directory place;
    certificate authority{"authority"}, stranger{"stranger"};
    certificate server{"server", "DNS:localhost,IP:127.0.0.1", &authority};
    std::string ca_file = (place / "ca.pem").string(), server_file = (place / "server.pem").string(),
                stranger_file = (place / "stranger.pem").string();
    std::shared_ptr<::SSL_CTX> context = server.server_context();
};

scripted_server::script echo_tls(const tls_files& files)
{
    return [&files](peer& client, int) {
        if (!client.start_tls(files.context.get()))
            return;
        echo(client, 0);
        client.end_tls();
    };
}

TEST_CASE("bytes go over a plain connection and come back")
{
    scripted_server server(echo);
    CHECK(run(target_of(server)).received == "<ping>");
    CHECK(run(connection_target::plain("localhost", server.port())).received == "<ping>");
}

TEST_CASE("bytes go over a unix socket")
{
    const overmount::test::scratch_directory place;
    const std::string path = (place / "socket").string();
    scripted_server server(path, echo);
    CHECK(run(connection_target::unix_socket(path)).received == "<ping>");
    CHECK(run(connection_target::unix_socket((place / "none").string())).code() == boost::system::errc::no_such_file_or_directory);
    CHECK(run(connection_target::unix_socket(std::string(200, 'x'))).code() == boost::system::errc::filename_too_long);
}

TEST_CASE("a refused connection names the target")
{
    std::uint16_t port = 0;
    {
        scripted_server gone(echo);
        port = gone.port();
    }
    const outcome got = run(connection_target::plain("127.0.0.1", port));
    CHECK(got.code() == boost::system::errc::connection_refused);
    CHECK(got.failure->at() == overmount::stage::source);
    CHECK(got.failure->subject() == "127.0.0.1:" + std::to_string(port));
}

TEST_CASE("connection targets have names, and are equal only if all their settings are")
{
    CHECK(connection_target::plain("::1", 5000).name() == "[::1]:5000");
    CHECK(connection_target::tls("registry.example", 443).name() == "registry.example:443");
    CHECK(connection_target::unix_socket("/run/x").name() == "/run/x");
    const auto base = connection_target::tls("h", 1);
    const connection_target others[] = {
        connection_target::plain("h", 1),
        connection_target::tls("g", 1),
        connection_target::tls("h", 2),
        connection_target::tls("h", 1, tls_settings().verify(false)),
        connection_target::tls("h", 1, tls_settings().ca_file("a")),
        connection_target::tls("h", 1, tls_settings().client_certificate("c", "k")),
        connection_target::tls("h", 1).proxy(proxy_server("p", 1)),
        connection_target::tls("h", 1).proxy(proxy_server("p", 1, "secret")),
    };
    for (const auto& other : others) {
        CHECK(other != base);
        CHECK((other < base) != (base < other));
        CHECK(other == connection_target(other));
    }
}

TEST_CASE("TLS trusts a certificate of the given CA for a name and for an address")
{
    const tls_files files;
    for (const std::string& host : {std::string("localhost"), std::string("127.0.0.1")}) {
        scripted_server server([&](peer& client, int) {
            if (!client.start_tls(files.context.get()))
                return;
            const char* const name = ::SSL_get_servername(client.ssl(), TLSEXT_NAMETYPE_host_name);
            server.record(name != nullptr ? name : "none");
            echo(client, 0);
            client.end_tls();
        });
        const outcome got = run(connection_target::tls(host, server.port(), tls_settings().ca_file(files.ca_file)));
        CHECK(got.received == "<ping>");
        CHECK(got.clean);
        server.stop();
        CHECK(server.records() == std::vector<std::string>{host == "localhost" ? host : "none"});
    }
}

TEST_CASE("TLS refuses another host's certificate")
{
    const tls_files files;
    const certificate other("127.0.0.1", "DNS:registry.example,DNS:*.localhost,IP:127.0.0.2", &files.authority);
    const auto context = other.server_context();
    for (const std::string& host : {std::string("localhost"), std::string("127.0.0.1")}) {
        scripted_server server([&](peer& client, int) { server.record(client.start_tls(context.get()) ? client.read(1) : ""); });
        const outcome got = run(connection_target::tls(host, server.port(), tls_settings().ca_file(files.ca_file)));
        CHECK(got.code().message().find("certificate verify failed") == 0);
        CHECK_THAT(got.message(), Catch::Matchers::ContainsSubstring("mismatch"));
        server.stop();
        CHECK(server.records() == std::vector<std::string>{""}); // nothing was sent
    }
}

TEST_CASE("TLS refuses a certificate of an unknown CA, unless it does not verify")
{
    const tls_files files;
    scripted_server server(echo_tls(files));
    for (const tls_settings& settings : {tls_settings(), tls_settings().ca_file(files.stranger_file)}) {
        const outcome got = run(connection_target::tls("127.0.0.1", server.port(), settings));
        CHECK(got.received.empty());
        CHECK_THAT(got.message(), Catch::Matchers::ContainsSubstring("issuer certificate"));
    }
    CHECK(run(connection_target::tls("127.0.0.1", server.port(), tls_settings().verify(false))).received == "<ping>");
}

TEST_CASE("TLS trusts a server's own certificate that is given as CA")
{
    const tls_files files;
    scripted_server server(echo_tls(files));
    CHECK(run(connection_target::tls("127.0.0.1", server.port(), tls_settings().ca_file(files.stranger_file).ca_file(files.server_file)))
              .received == "<ping>");
}

TEST_CASE("TLS older than 1.2 is refused")
{
    const tls_files files;
    for (const auto& [version, works] : {std::pair(TLS1_1_VERSION, false), std::pair(TLS1_2_VERSION, true), std::pair(TLS1_3_VERSION, true)}) {
        const auto context = files.server.server_context();
        ::SSL_CTX_set_security_level(context.get(), 0);
        ::SSL_CTX_set_min_proto_version(context.get(), version);
        ::SSL_CTX_set_max_proto_version(context.get(), version);
        scripted_server server([&](peer& client, int) {
            if (client.start_tls(context.get()))
                echo(client, 0);
        });
        const outcome got = run(connection_target::tls("127.0.0.1", server.port(), tls_settings().ca_file(files.ca_file)));
        CHECK(got.received == (works ? "<ping>" : ""));
        CHECK(got.failure.has_value() != works);
    }
}

TEST_CASE("TLS shows the client's certificate")
{
    const tls_files files;
    const certificate own("somebody", {}, &files.authority);
    const std::string certificate_file = (files.place / "own.pem").string(), key_file = (files.place / "own.key").string();
    own.write(certificate_file);
    own.write_key(key_file);
    ::SSL_CTX_set_verify(files.context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    ::SSL_CTX_load_verify_file(files.context.get(), files.ca_file.c_str());
    scripted_server server(echo_tls(files));
    const auto settings = tls_settings().ca_file(files.ca_file);
    CHECK(run(connection_target::tls("127.0.0.1", server.port(), tls_settings(settings).client_certificate(certificate_file, key_file)))
              .received == "<ping>");
    CHECK(run(connection_target::tls("127.0.0.1", server.port(), settings)).failure);
}

TEST_CASE("TLS files that cannot be used are named, and no passphrase is asked for")
{
    const tls_files files;
    const certificate own("somebody");
    const auto path = [&](const char* name) { return (files.place / name).string(); };
    own.write(path("own.pem"));
    own.write_key(path("own.key"));
    own.write_key(path("locked.key"), "passphrase");
    std::ofstream(path("empty.pem")) << "nothing";
    const std::pair<tls_settings, std::string> rows[] = {
        {tls_settings().ca_file(path("none.pem")), path("none.pem")},
        {tls_settings().ca_file(files.ca_file).ca_file(path("empty.pem")), path("empty.pem")},
        {tls_settings().client_certificate(path("none.pem"), path("own.key")), path("none.pem")},
        {tls_settings().client_certificate(path("own.pem"), path("none.key")), path("none.key")},
        {tls_settings().client_certificate(path("own.pem"), path("locked.key")), path("locked.key")},
        {tls_settings().client_certificate(files.ca_file, path("own.key")), path("own.key")},
    };
    for (const auto& [settings, file] : rows) {
        const outcome got = run(connection_target::tls("127.0.0.1", 1, settings));
        CHECK(got.code() == errc::invalid_settings);
        REQUIRE(got.failure);
        CHECK(got.failure->subject() == file);
    }
}

TEST_CASE("the end of TLS is clean only with close_notify")
{
    const tls_files files;
    for (const bool clean : {true, false}) {
        scripted_server server([&](peer& client, int) {
            if (!client.start_tls(files.context.get()))
                return;
            echo(client, 0);
            if (clean)
                client.end_tls();
        });
        const outcome got = run(connection_target::tls("127.0.0.1", server.port(), tls_settings().ca_file(files.ca_file)));
        CHECK(got.received == "<ping>");
        CHECK_FALSE(got.failure);
        CHECK(got.clean == clean);
    }
}

TEST_CASE("large data go through TLS in both directions")
{
    const tls_files files;
    std::string data(5 << 20, '\0');
    for (std::size_t i = 0; i < data.size(); ++i)
        data[i] = static_cast<char>(i * i >> 7);
    scripted_server server([&](peer& client, int) {
        if (!client.start_tls(files.context.get()))
            return;
        const std::string got = client.read(data.size());
        client.write(got);
        client.end_tls();
    });
    const outcome got = run(connection_target::tls("127.0.0.1", server.port(), tls_settings().ca_file(files.ca_file)), data);
    CHECK((got.received == data));
}

TEST_CASE("TLS goes through the tunnel of a proxy, which alone sees its authorization")
{
    const tls_files files;
    scripted_server server([&](peer& client, int) {
        server.record(client.answer("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n"));
        if (!client.start_tls(files.context.get()))
            return;
        const char* const name = ::SSL_get_servername(client.ssl(), TLSEXT_NAMETYPE_host_name);
        server.record(name != nullptr ? name : "none");
        echo(client, 0);
        client.end_tls();
    });
    const auto target = [&](const std::string& host, const std::string& authorization) {
        return connection_target::tls(host, 5443, tls_settings().verify(host == "localhost").ca_file(files.ca_file))
            .proxy(proxy_server("127.0.0.1", server.port(), authorization));
    };
    CHECK(run(target("localhost", "Basic hidden")).received == "<ping>");
    CHECK(run(target("2001:db8::1", "")).received == "<ping>"); // that the client does not resolve
    server.stop();
    CHECK(server.records() == std::vector<std::string>{"CONNECT localhost:5443 HTTP/1.1\r\nHost: localhost:5443\r\n"
                                                       "User-Agent: overmount/0.1.0\r\nProxy-Authorization: Basic hidden\r\n\r\n",
                                                       "localhost",
                                                       "CONNECT [2001:db8::1]:5443 HTTP/1.1\r\nHost: [2001:db8::1]:5443\r\n"
                                                       "User-Agent: overmount/0.1.0\r\n\r\n",
                                                       "none"});
}

TEST_CASE("a proxy that opens no tunnel is an error without its authorization")
{
    const std::pair<std::string, errc> rows[] = {
        {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", errc::login_refused},
        {"HTTP/1.1 403 Forbidden\r\n\r\n", errc::registry_unavailable},
        {"HTTP/1.0 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", errc::registry_unavailable},
        {"SSH-2.0-OpenSSH\r\n\r\n", errc::malformed_answer},
        {"HTTP/1.1 2\r\n\r\n", errc::malformed_answer},
        {"HTTP/1.1\r\n\r\n", errc::malformed_answer},
        {"HTTP/1.1 200 OK\r\n", errc::malformed_answer},
        {"", errc::malformed_answer},
        {"HTTP/1.1 200 OK\r\nX: " + std::string(100000, 'x'), errc::malformed_answer},
        {"HTTP/1.1 200 OK\r\n\r\nearly", errc::malformed_answer},
    };
    for (const auto& [answer, expected] : rows) {
        INFO(answer.substr(0, 60));
        scripted_server server([&, &bytes = answer](peer& client, int) { client.answer(bytes); });
        const outcome got = run(connection_target::tls("localhost", 443).proxy(proxy_server("127.0.0.1", server.port(), "Basic hidden")));
        CHECK(got.code() == expected);
        CHECK_THAT(got.message(), !Catch::Matchers::ContainsSubstring("hidden"));
    }
    const outcome got = run(connection_target::tls("h", 1).proxy(proxy_server("127.0.0.1", scripted_server(echo).port(), "hidden\r\nX: y")));
    CHECK_THAT(got.message(), !Catch::Matchers::ContainsSubstring("hidden"));
    CHECK(got.failure);
}

// A port to which connecting hangs: the queue of its listener is full.
class full_listener
{
public:
    full_listener()
    {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ::bind(listener_, reinterpret_cast<const sockaddr*>(&address), size);
        ::listen(listener_, 0);
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ::ntohs(address.sin_port);
        for (int& one : clients_) {
            one = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            (void)::connect(one, reinterpret_cast<const sockaddr*>(&address), size);
        }
    }
    full_listener(const full_listener&) = delete;
    full_listener& operator=(const full_listener&) = delete;
    ~full_listener()
    {
        for (const int one : clients_)
            ::close(one);
        ::close(listener_);
    }
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

private:
    int listener_ = -1;
    std::uint16_t port_ = 0;
    std::array<int, 4> clients_{};
};

TEST_CASE("the time limit of connecting covers TCP, the proxy and TLS")
{
    const full_listener full;
    scripted_server silent([](peer& client, int) { client.wait_closed(); });
    const connection_target rows[] = {
        connection_target::plain("127.0.0.1", full.port()),
        connection_target::tls("127.0.0.1", silent.port()),
        connection_target::tls("127.0.0.1", 443).proxy(proxy_server("127.0.0.1", silent.port())),
    };
    for (const auto& row : rows) {
        INFO(row.name());
        CHECK(run(row, "", 60s, connection_options().time_limit(100ms)).code() == asio::error::timed_out);
    }
}

TEST_CASE("a read and a write that take too long are timed out, and close the connection")
{
    scripted_server server([](peer& client, int number) {
        if (number == 0)
            client.wait_closed();
        else
            client.read_until("never, as nobody sends it");
    });
    CHECK(run(target_of(server), "", 50ms).code() == asio::error::timed_out);
    const auto task = [&]() -> asio::awaitable<void> {
        connection link = co_await connection::open(target_of(server), connection_options());
        std::byte one{};
        boost::system::error_code code;
        try {
            co_await link.read_some({&one, 1}, clock_type::now() - 1s);
        } catch (const overmount::error& failure) {
            code = failure.code();
        }
        CHECK(code == asio::error::timed_out);
        CHECK_FALSE(link.is_open());
        try {
            co_await link.write("x");
        } catch (const overmount::error& failure) {
            code = failure.code();
        }
        CHECK(code == asio::error::operation_aborted);
    };
    test::run_coroutine(task());
}

// Polls until `ready`, cancels, and tells how it ended.
outcome cancelled(const connection_target& target, const std::string& text, asio::cancellation_type type, const std::function<bool()>& ready)
{
    outcome out;
    asio::io_context context;
    asio::cancellation_signal signal;
    bool ended = false;
    const auto task = [&]() -> asio::awaitable<void> {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        co_await talk(&out, target, connection_options(), text, 1h);
    };
    asio::co_spawn(context, task(), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) { ended = true; }));
    context.poll_one(); // no more than the start
    while (!ready())
        context.poll();
    REQUIRE_FALSE(ended);
    signal.emit(type);
    context.run_for(60s);
    CHECK(ended);
    return out;
}

TEST_CASE("a connection is cancelled at once in each of its stages, and leaves no descriptor")
{
    const tls_files files;
    const std::size_t before = overmount::test::open_descriptors();
    for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
        {
            const full_listener full;
            CHECK(cancelled(connection_target::plain("127.0.0.1", full.port()), "", type, [] { return true; }).code() ==
                  asio::error::operation_aborted);
        }
        // While the name is resolved.
        CHECK(cancelled(connection_target::plain("registry.invalid", 80), "", type, [] { return true; }).code() ==
              asio::error::operation_aborted);
        for (const bool secure : {false, true})
            for (const bool proxied : {false, true})
                for (const int stage : {0, 1, 2}) { // in the handshake or tunnel, reading, writing
                    if (!secure && (proxied || stage == 0))
                        continue;
                    INFO(secure << proxied << stage);
                    scripted_server server([&](peer& client, int) {
                        if (proxied && stage > 0)
                            client.answer("HTTP/1.1 200 OK\r\n\r\n");
                        if (stage == 0)
                            client.read(1);
                        else if (secure)
                            client.start_tls(files.context.get());
                        if (stage > 0)
                            client.read(4);
                        server.record("here");
                        if (stage == 2)
                            for (pollfd one{client.fd(), POLLRDHUP, 0}; ::poll(&one, 1, -1) <= 0;) {
                            }
                        else
                            client.wait_closed();
                    });
                    auto target = secure ? connection_target::tls("127.0.0.1", server.port(), tls_settings().verify(false)) : target_of(server);
                    if (proxied)
                        target.proxy(proxy_server("127.0.0.1", server.port()));
                    const outcome got = cancelled(target, stage == 2 ? std::string(64 << 20, 'x') : "ping", type,
                                                  [&] { return !server.records().empty(); });
                    CHECK(got.code() == asio::error::operation_aborted);
                }
    }
    CHECK(overmount::test::open_descriptors() == before);
}

TEST_CASE("a connection whose coroutine goes on after a cancellation starts no operation")
{
    scripted_server server([](peer& client, int) { client.wait_closed(); });
    asio::io_context context;
    asio::cancellation_signal signal;
    std::vector<boost::system::error_code> codes;
    const auto task = [&]() -> asio::awaitable<void> {
        co_await asio::this_coro::throw_if_cancelled(false);
        connection link = co_await connection::open(target_of(server), connection_options());
        asio::post(context, [&] { signal.emit(asio::cancellation_type::terminal); });
        for (int i = 0; i < 2; ++i)
            try {
                std::byte one{};
                co_await link.read_some({&one, 1});
            } catch (const overmount::error& failure) {
                codes.push_back(failure.code());
            }
    };
    asio::co_spawn(context, task(), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    context.run_for(60s);
    CHECK(codes == std::vector<boost::system::error_code>(2, asio::error::operation_aborted));
}

TEST_CASE("closing or destroying a connection ends an operation that waits")
{
    for (const bool destroys : {false, true}) {
        scripted_server server([](peer& client, int) { client.wait_closed(); });
        asio::io_context context;
        std::optional<connection> link;
        boost::system::error_code code;
        const auto task = [&]() -> asio::awaitable<void> {
            link.emplace(co_await connection::open(target_of(server), connection_options()));
            std::byte one{};
            asio::post(context, [&] {
                if (destroys)
                    link.reset();
                else
                    link->close();
            });
            co_await link->read_some({&one, 1}, clock_type::now() + 1h);
        };
        asio::co_spawn(context, task(), [&](std::exception_ptr why) {
            try {
                std::rethrow_exception(why);
            } catch (const overmount::error& failure) {
                code = failure.code();
            }
        });
        context.run_for(60s);
        CHECK(code == asio::error::operation_aborted);
    }
}

TEST_CASE("a server that is gone is an error, and no signal")
{
    const tls_files files;
    for (const bool secure : {false, true}) {
        scripted_server server([&](peer& client, int) {
            if (secure)
                client.start_tls(files.context.get());
            client.read(1);
            client.reset();
        });
        const auto target = secure ? connection_target::tls("127.0.0.1", server.port(), tls_settings().verify(false)) : target_of(server);
        const outcome got = run(target, std::string(64 << 20, 'x'));
        CHECK((got.code() == boost::system::errc::connection_reset || got.code() == boost::system::errc::broken_pipe));
    }
}

TEST_CASE("a unix socket whose server is gone is an error, and no signal")
{
    const overmount::test::scratch_directory place;
    const std::string path = (place / "socket").string();
    scripted_server server(path, [](peer& client, int) { client.read(1); });
    CHECK(run(connection_target::unix_socket(path), std::string(64 << 20, 'x')).code() == boost::system::errc::broken_pipe);
}

TEST_CASE("a fast server does not keep other coroutines from running")
{
    scripted_server server([](peer& client, int) {
        const std::string much(1 << 20, 'x');
        for (int i = 0; i < 64 && client.write(much); ++i) {
        }
    });
    asio::io_context context;
    std::size_t done = 0, most = 0, since = 0;
    const auto reading = [&]() -> asio::awaitable<void> {
        connection link = co_await connection::open(target_of(server), connection_options());
        std::vector<std::byte> into(65536);
        while (const std::size_t count = co_await link.read_some(into)) {
            done += count;
            since += count;
            most = std::max(most, since);
        }
        done += 1;
    };
    std::function<void()> tick = [&] {
        since = 0;
        if (done <= 64U << 20)
            asio::post(context, tick);
    };
    asio::post(context, tick);
    asio::co_spawn(context, reading(), [](std::exception_ptr) {});
    context.run_for(60s);
    CHECK(done == (64U << 20) + 1);
    CHECK(most <= 3U << 20);
}

TEST_CASE("children do not inherit the sockets of connections")
{
    const auto inherited = [] {
        std::ptrdiff_t out = 0;
        for (int fd = 0; fd < 1024; ++fd)
            if (const int flags = ::fcntl(fd, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC) == 0)
                ++out;
        return out;
    };
    scripted_server server([](peer& client, int) { client.wait_closed(); });
    const auto task = [&]() -> asio::awaitable<void> {
        const auto before = inherited();
        connection link = co_await connection::open(target_of(server), connection_options());
        CHECK(inherited() == before);
    };
    test::run_coroutine(task());
}

TEST_CASE("an empty connection is not open, and refuses operations")
{
    connection empty;
    CHECK_FALSE(empty.is_open());
    CHECK_FALSE(empty.is_quiet());
    CHECK_FALSE(empty.ended_uncleanly());
    empty.close();
    CHECK_THROWS_AS(empty.write("x"), overmount::error);
    std::byte one{};
    CHECK_THROWS_AS(empty.read_some({&one, 1}), overmount::error);
}

} // namespace
