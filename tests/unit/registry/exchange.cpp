#include <overmount/registry/exchange.hpp>

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
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using overmount::errc;
using overmount::registry::answer_head;
using overmount::registry::connection_options;
using overmount::registry::connection_pool;
using overmount::registry::connection_target;
using overmount::registry::exchange;
using overmount::registry::exchange_options;
using overmount::registry::proxy_server;
using overmount::registry::request;
using overmount::registry::tls_settings;
using overmount::registry::url;
using overmount::test::certificate;
using overmount::test::peer;
using overmount::test::scripted_server;

url url_of(const scripted_server& server, const std::string& target = "/v2/")
{
    return url::parse("http://127.0.0.1:" + std::to_string(server.port()) + target);
}
connection_target target_of(const scripted_server& server)
{
    return connection_target::plain("127.0.0.1", server.port());
}

// What one exchange came to. A plain value, so that no test needs a coroutine for it.
class outcome
{
public:
    answer_head head;
    std::string body;
    std::optional<overmount::error> failure;
    boost::system::error_code code() const { return failure ? failure->code() : boost::system::error_code(); }
};

asio::awaitable<void> keep_outcome(outcome* out, connection_target target, request what, exchange_options options, std::size_t read_size)
{
    connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
    try {
        exchange made = co_await exchange::send(pool, std::move(target), std::move(what), options);
        out->head = made.head();
        std::vector<std::byte> into(read_size);
        while (const std::size_t count = co_await made.read_some(into))
            out->body.append(reinterpret_cast<const char*>(into.data()), count);
    } catch (const overmount::error& failure) {
        out->failure = failure;
    }
}

outcome run(const connection_target& target, const request& what, const exchange_options& options = {}, std::size_t read_size = 1000)
{
    outcome out;
    test::run_coroutine(keep_outcome(&out, target, what, options, read_size));
    return out;
}

// GETs from a server that answers each request with the same bytes and then closes.
outcome get_answer(const std::string& bytes, std::size_t read_size = 1000, const std::string& method = "GET")
{
    scripted_server server([&](peer& client, int) { client.answer(bytes); });
    return run(target_of(server), request(method, url_of(server, "/v2/x?secret=1")), {}, read_size);
}

// Sends requests one after another and reads their bodies; the number of idle connections after each.
asio::awaitable<void> keep_idle(std::vector<std::size_t>* idle, std::vector<std::string>* bodies, connection_target target, request what,
                                int times)
{
    connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
    for (int i = 0; i < times; ++i) {
        exchange made = co_await exchange::send(pool, target, what);
        std::string body = co_await made.read_all(1000);
        bodies->push_back(std::move(body));
        idle->push_back(pool.idle());
    }
}

std::vector<std::size_t> idle_after(const std::string& answer, int times = 1, const std::string& method = "GET")
{
    scripted_server server([&](peer& client, int) {
        while (!client.answer(answer).empty()) {
        }
    });
    std::vector<std::size_t> idle;
    std::vector<std::string> bodies;
    test::run_coroutine(keep_idle(&idle, &bodies, target_of(server), request(method, url_of(server)), times));
    return idle;
}

TEST_CASE("a request has the target of its URL byte for byte, and the headers of the exchange")
{
    scripted_server server([&](peer& client, int) { server.record(client.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); });
    const std::string target = "/v2/a%2Bb/~x//..?sig=%2b%2F==&empty=&a+b";
    CHECK(run(target_of(server), request("GET", url_of(server, target)).header("Accept", "a, b")).head.status() == 200);
    server.stop();
    REQUIRE(server.records().size() == 1);
    CHECK(server.records()[0] == "GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server.port()) +
                                     "\r\nUser-Agent: overmount/0.1.0\r\nAccept: a, b\r\n\r\n");
}

TEST_CASE("the header Host has brackets around an IPv6 address, and no default port")
{
    const std::pair<std::string, std::string> rows[] = {
        {"http://[::1]:5000/", "[::1]:5000"},
        {"http://registry.example/", "registry.example"},
        {"https://registry.example:443/", "registry.example"},
        {"http://registry.example:443/", "registry.example:443"},
    };
    for (const auto& [text, host] : rows) {
        INFO(text);
        scripted_server server([&](peer& client, int) { server.record(client.answer("HTTP/1.1 204 No\r\n\r\n")); });
        CHECK(run(target_of(server), request("GET", url::parse(text))).head.status() == 204);
        server.stop();
        REQUIRE(server.records().size() == 1);
        CHECK_THAT(server.records()[0], Catch::Matchers::ContainsSubstring("\r\nHost: " + host + "\r\n"));
    }
}

TEST_CASE("a request over a plain proxy is in absolute form, with the proxy's authorization")
{
    scripted_server server([&](peer& client, int) { server.record(client.answer("HTTP/1.1 204 No\r\n\r\n")); });
    const auto target = connection_target::plain("registry.example", 80).proxy(proxy_server("127.0.0.1", server.port(), "Basic abc"));
    CHECK(run(target, request("GET", url::parse("http://registry.example/v2/?a=%2B"))).head.status() == 204);
    server.stop();
    REQUIRE(server.records().size() == 1);
    CHECK(server.records()[0] == "GET http://registry.example/v2/?a=%2B HTTP/1.1\r\nHost: registry.example\r\n"
                                 "User-Agent: overmount/0.1.0\r\nProxy-Authorization: Basic abc\r\n\r\n");
}

TEST_CASE("a body is sent with its length, and a POST without a body says so")
{
    scripted_server server([&](peer& client, int number) {
        std::string got = client.head();
        got += client.read(number == 0 ? 5 : 0);
        server.record(got);
        client.write("HTTP/1.1 204 No\r\n\r\n");
    });
    CHECK(run(target_of(server), request("PUT", url_of(server)).body("bytes")).head.status() == 204);
    CHECK(run(target_of(server), request("POST", url_of(server))).head.status() == 204);
    server.stop();
    REQUIRE(server.records().size() == 2);
    CHECK_THAT(server.records()[0], Catch::Matchers::ContainsSubstring("\r\nContent-Length: 5\r\n\r\nbytes"));
    CHECK_THAT(server.records()[1], Catch::Matchers::ContainsSubstring("\r\nContent-Length: 0\r\n\r\n"));
}

TEST_CASE("a request with bytes that HTTP does not allow is not sent")
{
    const auto target = connection_target::plain("127.0.0.1", 1);
    const auto anywhere = url::parse("http://127.0.0.1:1/");
    const request rows[] = {
        request("GE T", anywhere),
        request("", anywhere),
        request("GET", anywhere).header("A", "secret\r\nB: c"),
        request("GET", anywhere).header("A", std::string("secret\0", 7)),
        request("GET", anywhere).header("A:", "secret"),
        request("GET", anywhere).header("", "secret"),
        request("GET", anywhere).header("host", "secret"),
        request("GET", anywhere).header("Transfer-encoding", "secret"),
        request("GET", anywhere).header("Content-Length", "1"),
        request("GET", anywhere).header("Connection", "secret"),
    };
    for (const request& row : rows) {
        const outcome got = run(target, row);
        CHECK(got.code() == boost::system::errc::invalid_argument);
        CHECK_THAT(got.failure->what(), !Catch::Matchers::ContainsSubstring("secret"));
    }
}

TEST_CASE("headers are found in any case, also repeated ones")
{
    const outcome got = get_answer("HTTP/1.1 401 No\r\nContent-length: 3\r\nwww-authenticate: Basic\r\nX: \t y \r\n"
                                   "WWW-Authenticate: Bearer realm=\"a,b\"\r\n\r\nabc");
    CHECK(got.head.status() == 401);
    CHECK(got.head.header("WWW-AUTHENTICATE") == "Basic");
    CHECK(got.head.headers("Www-Authenticate") == std::vector<std::string>{"Basic", "Bearer realm=\"a,b\""});
    CHECK(got.head.header("x") == "y");
    CHECK_FALSE(got.head.header("Y"));
    CHECK(got.head.headers("Y").empty());
    CHECK(got.head.content_length() == 3U);
    CHECK(got.body == "abc");
}

TEST_CASE("the body of each kind of answer has its end")
{
    struct row
    {
        std::string answer, body;
        std::string method = "GET";
    };
    const std::string chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const row rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", "he"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
        {"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", "x"},
        {chunks + "5\r\nhello\r\n0\r\n\r\n", "hello"},
        {chunks + "1;a=b;c=\"d\"\r\nh\r\n00004\r\nello\r\n0\r\n\r\n", "hello"},
        {chunks + "A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\nTrailer: x\r\n\r\n", "0123456789abcdefghij"},
        {chunks + "0\r\n\r\n", ""},
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end"},
        {"HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end"},
        {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", "old"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", "HEAD"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", "HEAD"},
        {"HTTP/1.1 200 OK\r\n\r\n", "", "HEAD"},
        {"HTTP/1.1 204 No\r\n\r\n", ""},
        {"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", ""},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x"},
        {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "", "HEAD"},
    };
    for (const auto& [answer, body, method] : rows)
        for (const std::size_t read_size : {1UL, 3UL, 1000UL}) {
            INFO(answer);
            INFO(read_size);
            const outcome got = get_answer(answer, read_size, method);
            CHECK(got.code() == boost::system::error_code());
            CHECK(got.head.status() / 100 != 1);
            CHECK(got.body == body);
        }
}

// An answer that the client reads in exactly these parts.
outcome get_parts(const std::vector<std::string>& parts)
{
    const overmount::test::scratch_directory place;
    const std::string path = (place / "socket").string();
    scripted_server server(path, [&](peer& client, int) {
        client.head();
        for (const std::string& part : parts) {
            client.write(part);
            client.wait_read();
        }
    });
    return run(connection_target::unix_socket(path), request("GET", url::parse("http://registry.example/v2/")));
}

TEST_CASE("an answer may come byte by byte")
{
    for (const std::string& answer :
         {std::string("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n"),
          std::string("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nabcde"), std::string("HTTP/1.0 200 OK\r\nX: y\r\n\r\nabcde")}) {
        std::vector<std::string> bytes;
        for (const char c : answer)
            bytes.emplace_back(1, c);
        const outcome got = get_parts(bytes);
        CHECK(got.code() == boost::system::error_code());
        CHECK(got.head.header("X") == "y");
        CHECK(got.body == "abcde");
    }
}

TEST_CASE("the end of a body in chunks may come in parts of any size")
{
    // Beast 1.81 asserts if it is given "0\r\n" and then one byte more.
    for (const std::string& tail : {std::string("0\r\n\r\n"), std::string("1\r\nx\r\n0\r\n\r\n")})
        for (std::size_t first = 0; first <= tail.size(); ++first)
            for (std::size_t second = first; second <= tail.size(); ++second) {
                const outcome got = get_parts({"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + tail.substr(0, first),
                                               tail.substr(first, second - first), tail.substr(second)});
                CHECK(got.code() == boost::system::error_code());
                CHECK(got.body == (tail.size() > 5 ? "x" : ""));
            }
}

TEST_CASE("answers that violate HTTP are malformed")
{
    const std::string ok = "HTTP/1.1 200 OK\r\n", chunks = ok + "Transfer-Encoding: chunked\r\n\r\n";
    const std::string rows[] = {
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        ok + "Content-Length: 1, 2\r\n\r\nxx",
        ok + "Content-Length: -1\r\n\r\n",
        ok + "Content-Length: 0x1\r\n\r\nx",
        ok + "Content-Length: \r\n\r\nx",
        ok + "Content-Length: 18446744073709551616\r\n\r\nx",
        ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        ok + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        ok + "Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        ok + "Content-Length: 1\r\nTransfer-Encoding: gzip\r\n\r\nx",
        ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ok + "Transfer-Encoding: identity\r\n\r\nx",
        ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ok + "A: b\x01" "c\r\n\r\n",
        ok + std::string("A: b\0c\r\n\r\n", 10),
        ok + "A: b\x7f\r\n\r\n",
        ok + "A: b\rc\r\n\r\n",
        ok + "A b: c\r\n\r\n",
        ok + ": c\r\n\r\n",
        ok + "A\r\n\r\n",
        chunks + "xyz\r\n\r\n",
        chunks + "-1\r\nx\r\n",
        chunks + "fffffffffffffffff\r\nx\r\n",
        chunks + "1\r\nxx\r\n0\r\n\r\n",
        chunks + "0\r\nbad trailer\r\n\r\n",
    };
    for (const std::string& row : rows) {
        INFO(row);
        const outcome got = get_answer(row);
        CHECK(got.code() == errc::malformed_answer);
        REQUIRE(got.failure);
        CHECK(got.failure->at() == overmount::stage::source);
        CHECK(got.failure->operation() == "GET");
        CHECK_THAT(got.failure->subject(), Catch::Matchers::EndsWith("/v2/x"));
    }
}

TEST_CASE("20 KiB of headers are taken, more than 64 KiB are malformed")
{
    const auto sized = [](std::size_t size) {
        std::string out = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n";
        for (; out.size() + 1010 < size - 2; out += "X: " + std::string(1000, 'x') + "\r\n") {
        }
        return out + "Y: " + std::string(size - out.size() - 7, 'y') + "\r\n\r\n";
    };
    REQUIRE(sized(20000).size() == 20000);
    for (const std::size_t size : {20000UL, 65535UL}) {
        const outcome got = get_answer(sized(size) + "b");
        CHECK(got.code() == boost::system::error_code());
        CHECK(got.body == "b");
    }
    const std::string interim = "HTTP/1.1 103 Early Hints\r\nX: " + std::string(30000, 'x') + "\r\n\r\n";
    const std::string rows[] = {
        sized(65537) + "b",
        sized(200000) + "b",
        "HTTP/1.1 200 OK\r\nX: " + std::string(100000, 'x'),
        std::string(100000, 'H'),
        interim + interim + interim + "HTTP/1.1 204 No\r\n\r\n",
    };
    for (const std::string& row : rows)
        CHECK(get_answer(row).code() == errc::malformed_answer);
    CHECK(get_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + std::string(100000, 'x')).code() == errc::malformed_answer);
    CHECK(get_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + std::string(100000, 'x')).code() ==
          errc::malformed_answer);
}

TEST_CASE("an answer that ends early is truncated")
{
    const std::string rows[] = {
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    };
    for (const std::string& row : rows) {
        INFO(row);
        CHECK(get_answer(row).code() == errc::truncated_stream);
    }
}

TEST_CASE("a connection goes back to the pool when the answer was read to its end")
{
    using idle = std::vector<std::size_t>;
    CHECK(idle_after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == idle{1});
    CHECK(idle_after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n") == idle{1});
    CHECK(idle_after("HTTP/1.1 204 No\r\n\r\n") == idle{1});
    CHECK(idle_after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 1, "HEAD") == idle{1});
    CHECK(idle_after("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok") == idle{1});
    // The server says that it closes, or sends bytes that nobody asked for.
    CHECK(idle_after("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok") == idle{0});
    CHECK(idle_after("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok") == idle{0});
    CHECK(idle_after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno") == idle{0});
}

TEST_CASE("a connection is used again, and one that fails before its answer is replaced once")
{
    for (const bool resets : {false, true}) {
        // The first connection answers once, and ends when the second request has come.
        scripted_server server([&](peer& client, int number) {
            server.record(std::to_string(number) + client.answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + std::to_string(number)));
            server.record(std::to_string(number) + client.head());
            if (resets)
                client.reset();
        });
        std::vector<std::size_t> idle;
        std::vector<std::string> bodies;
        test::run_coroutine(keep_idle(&idle, &bodies, target_of(server), request("GET", url_of(server)), 2));
        CHECK(bodies == std::vector<std::string>{"0", "1"});
        CHECK(idle == std::vector<std::size_t>{1, 1});
        server.stop();
        REQUIRE(server.records().size() == 4);
        CHECK(server.records()[1].starts_with("0GET"));
        CHECK(server.records()[2].starts_with("1GET"));
    }
}

TEST_CASE("a kept connection is not replaced after the first byte, nor for a request that must not be repeated")
{
    for (const bool repeatable : {false, true}) {
        scripted_server server([&](peer& client, int) {
            client.answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
            client.answer(repeatable ? "H" : "");
        });
        std::vector<std::size_t> idle;
        std::vector<std::string> bodies;
        const auto twice = [&]() -> asio::awaitable<void> {
            co_await keep_idle(&idle, &bodies, target_of(server), request("GET", url_of(server)).repeatable(repeatable), 2);
        };
        try {
            test::run_coroutine(twice());
            FAIL("the second request has no answer");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::truncated_stream);
        }
        CHECK(server.connections(1) == 1);
        CHECK(bodies.size() == 1);
    }
}

TEST_CASE("a fresh connection that fails is not replaced")
{
    scripted_server server([](peer& client, int) { client.head(); });
    CHECK(run(target_of(server), request("GET", url_of(server))).code() == errc::truncated_stream);
    CHECK(server.connections(1) == 1);
}

asio::awaitable<void> read_all_of(connection_target target, request what, std::size_t limit, std::string* out, std::size_t* idle)
{
    connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
    exchange made = co_await exchange::send(pool, std::move(target), std::move(what));
    try {
        *out = co_await made.read_all(limit);
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::malformed_answer);
        *out = "too large";
    }
    *idle = pool.idle();
}

TEST_CASE("a body is read whole up to a limit")
{
    const std::string body(40000, 'b');
    const std::string answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + body,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9C40\r\n" + body + "\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n" + body,
    };
    for (const std::string& answer : answers)
        for (const std::size_t limit : {40000UL, 39999UL, 0UL, ~0UL}) {
            INFO(answer.substr(0, 60));
            INFO(limit);
            scripted_server server([&](peer& client, int) { client.answer(answer); });
            std::string got;
            std::size_t idle = 0;
            test::run_coroutine(read_all_of(target_of(server), request("GET", url_of(server)), limit, &got, &idle));
            CHECK((got == (limit >= 40000 ? body : "too large")));
            if (limit != 39999) // where the end may have come already
                CHECK(idle == (limit >= 40000 && &answer != &answers[2] ? 1U : 0U));
        }
}

asio::awaitable<void> drain_one(connection_target target, request what, std::size_t* idle)
{
    connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
    exchange made = co_await exchange::send(pool, std::move(target), std::move(what), exchange_options().stall(100ms));
    co_await made.drain();
    *idle = pool.idle();
}

TEST_CASE("a short rest of known length is drained, another one closes the connection")
{
    const std::pair<std::string, std::size_t> rows[] = {
        {"HTTP/1.1 307 Go\r\nContent-Length: 16384\r\n\r\n" + std::string(16384, 'x'), 1},
        {"HTTP/1.1 307 Go\r\nContent-Length: 0\r\n\r\n", 1},
        {"HTTP/1.1 307 Go\r\nContent-Length: 16385\r\n\r\n" + std::string(16385, 'x'), 0},
        {"HTTP/1.1 307 Go\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 0},
        {"HTTP/1.1 307 Go\r\nContent-Length: 10\r\n\r\nxxx", 0}, // it stalls, which is no error
    };
    for (const auto& [answer, expected] : rows) {
        INFO(answer.substr(0, 60));
        scripted_server server([&, &bytes = answer](peer& client, int) {
            client.answer(bytes);
            client.wait_closed();
        });
        std::size_t idle = 9;
        test::run_coroutine(drain_one(target_of(server), request("GET", url_of(server)), &idle));
        CHECK(idle == expected);
    }
}

TEST_CASE("an exchange that is destroyed before the end of the body closes its connection")
{
    const std::size_t before = overmount::test::open_descriptors();
    {
        scripted_server server([&](peer& client, int) {
            client.answer("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx");
            client.wait_closed();
            server.record("closed");
        });
        boost::asio::io_context context;
        const auto task = [&]() -> asio::awaitable<void> {
            connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
            {
                exchange made = co_await exchange::send(pool, target_of(server), request("GET", url_of(server)));
                std::byte one{};
                co_await made.read_some({&one, 1});
            }
            CHECK(pool.idle() == 0);
        };
        asio::co_spawn(context, task(), [](std::exception_ptr failure) { CHECK_FALSE(failure); });
        context.run_for(60s);
        while (server.records().empty()) // before the context is destroyed
            std::this_thread::yield();
    }
    CHECK(overmount::test::open_descriptors() == before);
}

TEST_CASE("a server that stalls in the body or keeps back its head is timed out")
{
    for (const std::string& answer :
         {std::string(), std::string("HTTP/1.1 200"), std::string("HTTP/1.1 100 Continue\r\n\r\n"), std::string("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
          std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell"), std::string("HTTP/1.1 200 OK\r\n\r\nhell")}) {
        INFO(answer);
        scripted_server server([&](peer& client, int) {
            client.answer(answer);
            client.wait_closed();
        });
        const bool in_body = answer.ends_with("hell");
        exchange_options options;
        options.stall(in_body ? 100ms : 1h).head_limit(in_body ? 1h : 100ms);
        const outcome got = run(target_of(server), request("GET", url_of(server)), options);
        CHECK(got.code() == asio::error::timed_out);
        CHECK(got.body == (in_body ? "hell" : ""));
    }
}

TEST_CASE("a server that does not read the request is timed out")
{
    scripted_server server([&](peer& client, int) {
        const int small = 4096;
        ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        client.read(1);
        while (server.records().empty())
            std::this_thread::yield();
    });
    const outcome got =
        run(target_of(server), request("PUT", url_of(server)).body(std::string(64 << 20, 'x')), exchange_options().head_limit(100ms));
    server.record("done");
    CHECK(got.code() == asio::error::timed_out);
}

TEST_CASE("the time between reads is no stall")
{
    scripted_server server([&](peer& client, int) {
        client.answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        while (server.records().empty())
            std::this_thread::yield();
        client.write("llo");
        client.wait_closed();
    });
    const auto task = [&]() -> asio::awaitable<void> {
        const auto executor = co_await asio::this_coro::executor;
        exchange made =
            co_await exchange::send(connection_pool::of(executor), target_of(server), request("GET", url_of(server)), exchange_options().stall(100ms));
        std::array<std::byte, 2> two;
        const std::size_t count = co_await made.read_some(two);
        CHECK(count == 2);
        asio::steady_timer timer(executor, 250ms);
        co_await timer.async_wait(asio::use_awaitable);
        server.record("go");
        const std::string rest = co_await made.read_all(100);
        CHECK(rest == "llo");
    };
    test::run_coroutine(task());
}

// Cancels the exchange once the server has recorded that it is as far as the script goes.
outcome cancel_when_recorded(scripted_server& server, const request& what, asio::cancellation_type type, const exchange_options& options = {})
{
    outcome out;
    boost::asio::io_context context;
    asio::cancellation_signal signal;
    const auto task = [&]() -> asio::awaitable<void> {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        co_await keep_outcome(&out, target_of(server), what, options, 1000);
    };
    bool ended = false;
    asio::co_spawn(context, task(), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) { ended = true; }));
    while (server.records().empty())
        context.poll();
    for (int i = 0; i < 100; ++i) // what the server wrote before is read
        context.poll();
    REQUIRE_FALSE(ended);
    signal.emit(type);
    context.run_for(60s);
    CHECK(ended);
    CHECK(connection_pool::of(context.get_executor()).idle() == 0);
    return out;
}

TEST_CASE("a cancelled exchange reports that, closes its connection, and leaves no descriptor")
{
    const std::size_t before = overmount::test::open_descriptors();
    for (const std::string& answer : {std::string(), std::string("HTTP/1.1 200"), std::string("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
                                      std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell"),
                                      std::string("HTTP/1.1 200 OK\r\n\r\nhell")})
        for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
            scripted_server server([&](peer& client, int) {
                client.answer(answer);
                server.record("here");
                client.wait_closed();
            });
            const outcome got = cancel_when_recorded(server, request("GET", url_of(server)), type);
            CHECK(got.code() == asio::error::operation_aborted);
        }
    CHECK(overmount::test::open_descriptors() == before);
}

TEST_CASE("a cancelled exchange is not repeated on a fresh connection")
{
    scripted_server server([&](peer& client, int number) {
        client.answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        client.head();
        server.record(std::to_string(number));
        client.wait_closed();
    });
    boost::asio::io_context context;
    asio::cancellation_signal signal;
    std::vector<std::size_t> idle;
    std::vector<std::string> bodies;
    boost::system::error_code code;
    const auto ended = [&](std::exception_ptr why) {
        try {
            std::rethrow_exception(why);
        } catch (const overmount::error& failure) {
            code = failure.code();
        }
    };
    asio::co_spawn(context, keep_idle(&idle, &bodies, target_of(server), request("GET", url_of(server)), 2),
                   asio::bind_cancellation_slot(signal.slot(), ended));
    while (server.records().empty())
        context.poll();
    signal.emit(asio::cancellation_type::terminal);
    context.run_for(60s);
    CHECK(code == asio::error::operation_aborted);
    CHECK(server.connections(1) == 1);
}

// Two exchanges, the second on the connection of the first.
asio::awaitable<void> exchange_twice(connection_target target, request what, std::vector<std::string>* bodies)
{
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    std::vector<std::size_t> idle;
    co_await keep_idle(&idle, bodies, std::move(target), std::move(what), 2);
}

TEST_CASE("an exchange may be cancelled, or its context destroyed, after any handler")
{
    const certificate own("server");
    const auto context_of_server = own.server_context();
    const std::string answers[] = {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"};
    const std::size_t before = overmount::test::open_descriptors();
    for (const bool secure : {false, true})
        for (const bool cancels : {false, true}) {
            scripted_server server([&](peer& client, int) {
                if (secure && !client.start_tls(context_of_server.get()))
                    return;
                client.answer(answers[0]);
                client.answer(answers[1]);
                client.wait_closed();
            });
            const auto target = secure ? connection_target::tls("localhost", server.port(), tls_settings().verify(false))
                                       : connection_target::plain("localhost", server.port());
            bool completed = false;
            for (int handlers = 0; !completed && handlers < 1000; ++handlers) {
                INFO(handlers);
                std::vector<std::string> bodies;
                asio::cancellation_signal signal;
                bool ended = false, aborted = false;
                const auto at_end = [&](std::exception_ptr why) {
                    ended = true;
                    try {
                        if (why)
                            std::rethrow_exception(why);
                    } catch (const boost::system::system_error& failure) {
                        aborted = failure.code() == asio::error::operation_aborted;
                    }
                };
                asio::io_context context;
                asio::co_spawn(context, exchange_twice(target, request("GET", url_of(server)), &bodies),
                               asio::bind_cancellation_slot(signal.slot(), at_end));
                for (int i = 0; i < handlers && context.run_one_for(60s) > 0; ++i) {
                }
                completed = ended;
                if (completed)
                    CHECK(bodies == std::vector<std::string>{"abc", "abc"});
                if (completed || !cancels)
                    continue;
                signal.emit(asio::cancellation_type::terminal);
                context.run_for(60s);
                CHECK(ended);
                CHECK((aborted || bodies.size() == 2));
                CHECK(connection_pool::of(context.get_executor()).idle() <= 1);
            }
            CHECK(completed);
        }
    CHECK(overmount::test::open_descriptors() == before);
}

TEST_CASE("the timer of a finished exchange does not keep its context busy")
{
    scripted_server server([](peer& client, int) {
        client.answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        client.wait_closed();
    });
    const auto begin = std::chrono::steady_clock::now();
    const outcome got = run(target_of(server), request("GET", url_of(server)), exchange_options().stall(1h).head_limit(1h));
    CHECK(got.body == "x");
    CHECK(std::chrono::steady_clock::now() - begin < 20s);
}

TEST_CASE("a large body comes unchanged, with and without TLS, in chunks and without")
{
    std::string body(3 << 20, '\0');
    std::uint32_t random = 1;
    for (char& c : body)
        c = static_cast<char>((random = random * 1664525 + 1013904223) >> 24);
    std::string chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (std::size_t at = 0, size = 1; at < body.size(); at += size, size = size * 3 % 70001) {
        char header[32];
        std::snprintf(header, sizeof header, "%zx\r\n", std::min(size, body.size() - at));
        chunks += header + body.substr(at, size) + "\r\n";
    }
    chunks += "0\r\n\r\n";
    const certificate own("server");
    const auto context = own.server_context();
    for (const std::string& answer : {"HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body, chunks})
        for (const bool secure : {false, true})
            for (const std::size_t read_size : {1000UL, 100000UL}) {
                scripted_server server([&](peer& client, int) {
                    if (!secure || client.start_tls(context.get()))
                        client.answer(answer);
                    client.wait_closed();
                });
                const auto target =
                    secure ? connection_target::tls("127.0.0.1", server.port(), tls_settings().verify(false)) : target_of(server);
                const outcome got = run(target, request("GET", url_of(server)), {}, read_size);
                CHECK(got.code() == boost::system::error_code());
                CHECK((got.body == body));
            }
}

TEST_CASE("TLS without close_notify is an error only for a body without a length")
{
    const certificate own("server");
    const auto context = own.server_context();
    struct row
    {
        std::string answer;
        bool clean;
        boost::system::error_code code;
    };
    const row rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", false, {}},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", false, {}},
        {"HTTP/1.1 200 OK\r\n\r\nbody", true, {}},
        {"HTTP/1.1 200 OK\r\n\r\nbody", false, errc::truncated_stream},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", false, errc::truncated_stream},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", true, errc::truncated_stream},
    };
    for (const row& each : rows) {
        INFO(each.answer);
        scripted_server server([&](peer& client, int) {
            if (!client.start_tls(context.get()))
                return;
            client.answer(each.answer);
            if (each.clean)
                client.end_tls();
        });
        const outcome got =
            run(connection_target::tls("127.0.0.1", server.port(), tls_settings().verify(false)), request("GET", url_of(server)));
        CHECK(got.code() == each.code);
        CHECK(got.body == "body");
    }
}

TEST_CASE("an exchange over a unix socket takes the header Host from the URL")
{
    const overmount::test::scratch_directory place;
    const std::string path = (place / "socket").string();
    scripted_server server(path, [&](peer& client, int) { server.record(client.answer("HTTP/1.1 204 No\r\n\r\n")); });
    CHECK(run(connection_target::unix_socket(path), request("GET", url::parse("http://registry.example/v2/"))).head.status() == 204);
    server.stop();
    REQUIRE(server.records().size() == 1);
    CHECK_THAT(server.records()[0], Catch::Matchers::StartsWith("GET /v2/ HTTP/1.1\r\nHost: registry.example\r\n"));
}

TEST_CASE("errors of an exchange hold no secrets")
{
    const std::string headers = "X-Secret: hidden\r\nSet-Cookie: hidden\r\n";
    for (const std::string& answer : {"HTTP/1.1 200 OK\r\n" + headers + "Content-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\n" + headers + "Bad: hidden\x01\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\n" + headers}) {
        scripted_server server([&](peer& client, int) { client.answer(answer); });
        const outcome got = run(target_of(server), request("GET", url_of(server, "/a?token=hidden")).header("Authorization", "Bearer hidden"));
        REQUIRE(got.failure);
        CHECK_THAT(got.failure->what(), !Catch::Matchers::ContainsSubstring("hidden"));
        CHECK_THAT(got.failure->what(), Catch::Matchers::ContainsSubstring("/a"));
    }
}

} // namespace
