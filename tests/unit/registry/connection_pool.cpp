#include <overmount/registry/connection_pool.hpp>

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
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <chrono>
#include <list>
#include <optional>
#include <vector>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using overmount::registry::connection_limits;
using overmount::registry::connection_options;
using overmount::registry::connection_pool;
using overmount::registry::connection_target;
using overmount::registry::pooled_connection;
using overmount::registry::tls_settings;
using overmount::test::certificate;
using overmount::test::peer;
using overmount::test::scripted_server;

connection_target target_of(const scripted_server& server)
{
    return connection_target::plain("127.0.0.1", server.port());
}

void wait_for_close(peer& client, int)
{
    client.wait_closed();
}

// A context with a pool, in which coroutines wait for connections and keep them.
class pool_user
{
public:
    explicit pool_user(connection_limits limits = {}) : pool_(asio::make_service<connection_pool>(context_, limits)) {}

    // Starts to take a connection; its number among all that were asked for.
    std::size_t take(const connection_target& target)
    {
        taken_.emplace_back();
        auto& mine = taken_.back();
        const std::size_t number = taken_.size() - 1;
        asio::co_spawn(context_, take_into(&mine, target, number),
                       asio::bind_cancellation_slot(mine.signal.slot(), [&mine](std::exception_ptr failure) { mine.failure = failure; }));
        return number;
    }
    // Lets everything happen that can happen without waiting; connecting to a local server takes a few rounds.
    void settle(std::size_t expected)
    {
        const auto limit = std::chrono::steady_clock::now() + 60s;
        while (granted_.size() < expected && std::chrono::steady_clock::now() < limit) {
            context_.restart();
            context_.run_for(1ms);
        }
        for (int i = 0; i < 20; ++i) {
            context_.restart();
            context_.poll();
        }
    }
    [[nodiscard]] pooled_connection& at(std::size_t number) { return *std::next(taken_.begin(), static_cast<std::ptrdiff_t>(number))->link; }
    void cancel(std::size_t number, asio::cancellation_type type)
    {
        std::next(taken_.begin(), static_cast<std::ptrdiff_t>(number))->signal.emit(type);
    }
    [[nodiscard]] std::exception_ptr failure(std::size_t number)
    {
        return std::next(taken_.begin(), static_cast<std::ptrdiff_t>(number))->failure;
    }
    // The numbers in the order in which they got a connection.
    [[nodiscard]] const std::vector<std::size_t>& granted() const noexcept { return granted_; }
    [[nodiscard]] connection_pool& pool() noexcept { return pool_; }
    [[nodiscard]] asio::io_context& context() noexcept { return context_; }

private:
    struct taken
    {
        std::optional<pooled_connection> link;
        asio::cancellation_signal signal;
        std::exception_ptr failure;
    };
    asio::awaitable<void> take_into(taken* mine, connection_target target, std::size_t number)
    {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        mine->link.emplace(co_await pool_.acquire(std::move(target)));
        granted_.push_back(number);
    }
    std::list<taken> taken_; // outlives the coroutines
    std::vector<std::size_t> granted_;
    asio::io_context context_;
    connection_pool& pool_;
};

using numbers = std::vector<std::size_t>;

TEST_CASE("all users of a context have the same connection pool")
{
    asio::io_context context, other;
    CHECK(&connection_pool::of(context.get_executor()) == &connection_pool::of(asio::make_strand(context)));
    CHECK(&connection_pool::of(context.get_executor()) != &connection_pool::of(other.get_executor()));
}

TEST_CASE("a connection that is given back is used again by an equal target only")
{
    scripted_server server(wait_for_close);
    pool_user user;
    user.take(target_of(server));
    user.settle(1);
    CHECK_FALSE(user.at(0).is_reused());
    user.at(0).give_back();
    CHECK_FALSE(user.at(0));
    CHECK(user.pool().idle() == 1);
    user.take(target_of(server));
    user.settle(2);
    CHECK(user.at(1).is_reused());
    CHECK(user.pool().idle() == 0);
    user.at(1).give_back();
    user.take(connection_target::plain("localhost", server.port()));
    user.settle(3);
    CHECK_FALSE(user.at(2).is_reused());
    CHECK(user.pool().idle() == 1);
    CHECK(server.connections(2) == 2);
}

TEST_CASE("a connection that is not given back is closed")
{
    scripted_server server([&](peer& client, int) {
        client.wait_closed();
        server.record("closed");
    });
    pool_user user;
    user.take(target_of(server));
    user.settle(1);
    user.at(0) = {};
    while (server.records().empty())
        std::this_thread::yield();
    CHECK(user.pool().idle() == 0);
}

TEST_CASE("a closed connection is not kept in the pool")
{
    scripted_server server(wait_for_close);
    pool_user user;
    user.take(target_of(server));
    user.settle(1);
    user.at(0)->close();
    user.at(0).give_back();
    CHECK(user.pool().idle() == 0);
}

TEST_CASE("an idle connection that the server closed, or to which it sent something, is not used again")
{
    for (const bool sends : {false, true}) {
        scripted_server server([&](peer& client, int) {
            client.read(1);
            if (sends)
                client.write("surprise");
            else
                ::shutdown(client.fd(), SHUT_WR);
            server.record("now");
            client.wait_closed();
        });
        pool_user user;
        user.take(target_of(server));
        user.settle(1);
        const auto poke = [&]() -> asio::awaitable<void> { co_await user.at(0)->write("x"); };
        asio::co_spawn(user.context(), poke(), [&](std::exception_ptr) { user.at(0).give_back(); });
        while (server.records().empty() || user.pool().idle() == 0) {
            user.context().restart();
            user.context().poll();
        }
        user.take(target_of(server));
        user.settle(2);
        CHECK_FALSE(user.at(1).is_reused());
        CHECK(user.pool().idle() == 0);
    }
}

TEST_CASE("who wants one more connection to a target waits in order")
{
    scripted_server server(wait_for_close), elsewhere(wait_for_close);
    pool_user user(connection_limits().per_target(2));
    for (int i = 0; i < 5; ++i)
        user.take(target_of(server));
    user.take(target_of(elsewhere)); // does not wait
    user.settle(3);
    CHECK(user.granted().size() == 3);
    CHECK(user.at(5));
    CHECK(server.connections(2) == 2);
    user.at(1).give_back();
    user.settle(4);
    CHECK(user.granted().back() == 2);
    CHECK(user.at(2).is_reused());
    user.at(0) = {}; // closed, so that the next one opens its own
    user.settle(5);
    CHECK(user.granted().back() == 3);
    CHECK_FALSE(user.at(3).is_reused());
    user.at(2) = {};
    user.settle(6);
    CHECK(user.granted().back() == 4);
    CHECK(server.connections(4) == 4);
}

TEST_CASE("the bound on all connections closes the longest idle one of another target")
{
    scripted_server a(wait_for_close), b(wait_for_close), c(wait_for_close);
    pool_user user(connection_limits().in_all(2));
    user.take(target_of(a));
    user.take(target_of(b));
    user.settle(2);
    user.take(target_of(c));
    user.settle(2);
    CHECK(user.granted().size() == 2);
    user.at(1).give_back();
    user.settle(3);
    CHECK(user.granted() == numbers{user.granted()[0], user.granted()[1], 2});
    CHECK(user.pool().idle() == 0); // that of b
    user.at(0).give_back();
    user.at(2).give_back();
    CHECK(user.pool().idle() == 2);
    user.take(target_of(b));
    user.settle(4);
    CHECK(user.pool().idle() == 1);
    user.take(target_of(c));
    user.settle(5);
    CHECK(user.at(4).is_reused()); // that of a was idle for longer
}

TEST_CASE("waiting for a connection can be cancelled, and does not take the place of others")
{
    scripted_server server(wait_for_close);
    for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total})
        for (const auto limits : {connection_limits().per_target(1), connection_limits().in_all(1)}) {
            pool_user user(limits);
            for (int i = 0; i < 3; ++i)
                user.take(target_of(server));
            user.settle(1);
            user.cancel(1, type);
            user.settle(1);
            REQUIRE(user.failure(1));
            try {
                std::rethrow_exception(user.failure(1));
            } catch (const overmount::error& failure) {
                CHECK(failure.code() == asio::error::operation_aborted);
            }
            CHECK(user.granted() == numbers{0});
            user.at(0).give_back();
            user.settle(2);
            CHECK(user.granted() == numbers{0, 2});
        }
}

TEST_CASE("a connection that cannot be opened gives its place back")
{
    std::uint16_t closed_port = 0;
    {
        scripted_server gone(wait_for_close);
        closed_port = gone.port();
    }
    pool_user user(connection_limits().per_target(1).in_all(1));
    for (int i = 0; i < 3; ++i)
        user.take(connection_target::plain("127.0.0.1", closed_port));
    user.context().run_for(60s); // until all have ended
    for (std::size_t i = 0; i < 3; ++i)
        CHECK(user.failure(i));
}

TEST_CASE("a connection that was idle for too long is closed by the next use of the pool")
{
    scripted_server server(wait_for_close);
    pool_user user(connection_limits().idle_time(0ms));
    user.take(target_of(server));
    user.settle(1);
    user.at(0).give_back();
    user.take(target_of(server));
    user.settle(2);
    CHECK_FALSE(user.at(1).is_reused());
    CHECK(user.pool().idle() == 0);
    CHECK(server.connections(2) == 2);
}

TEST_CASE("idle connections do not keep the context busy, and can be closed")
{
    const std::size_t before = overmount::test::open_descriptors();
    {
        scripted_server server([](peer& client, int) { client.wait_closed(); });
        pool_user user;
        user.take(target_of(server));
        user.settle(1);
        user.at(0).give_back();
        user.context().restart();
        user.context().run(); // returns
        CHECK(user.pool().idle() == 1);
        user.pool().close_idle();
        CHECK(user.pool().idle() == 0);
    }
    CHECK(overmount::test::open_descriptors() == before);
}

TEST_CASE("a lease can be reopened in its place")
{
    scripted_server server(wait_for_close);
    pool_user user(connection_limits().per_target(1).in_all(1));
    user.take(target_of(server));
    user.settle(1);
    user.at(0).give_back();
    user.take(target_of(server));
    user.settle(2);
    REQUIRE(user.at(1).is_reused());
    std::exception_ptr failed;
    bool ended = false;
    asio::co_spawn(user.context(), user.at(1).reopen(), [&](std::exception_ptr failure) {
        failed = failure;
        ended = true;
    });
    user.context().restart();
    user.context().run_for(60s);
    CHECK(ended);
    CHECK_FALSE(failed);
    CHECK_FALSE(user.at(1).is_reused());
    CHECK(user.at(1)->is_open());
    CHECK(server.connections(2) == 2);
}

TEST_CASE("destroying the context closes all connections, and a lease may outlive it")
{
    const std::size_t before = overmount::test::open_descriptors();
    {
        scripted_server server(wait_for_close);
        pooled_connection used, idle;
        std::optional<asio::io_context> context(std::in_place);
        const auto task = [&]() -> asio::awaitable<void> {
            connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
            used = co_await pool.acquire(target_of(server));
            idle = co_await pool.acquire(target_of(server));
            idle.give_back();
        };
        asio::co_spawn(*context, task(), [](std::exception_ptr failure) { CHECK_FALSE(failure); });
        context->run_for(60s);
        REQUIRE(used->is_open());
        // One coroutine waits for a place, one reads.
        const auto waiting = [&]() -> asio::awaitable<void> {
            connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
            std::vector<pooled_connection> held;
            for (;;)
                held.push_back(co_await pool.acquire(target_of(server)));
        };
        const auto reading = [&]() -> asio::awaitable<void> {
            std::byte one{};
            co_await used->read_some({&one, 1});
        };
        asio::co_spawn(*context, waiting(), [](std::exception_ptr) {});
        asio::co_spawn(*context, reading(), [](std::exception_ptr) {});
        context->restart();
        while (server.connections() < 6)
            context->poll();
        context.reset();
        CHECK_FALSE(used->is_open());
        used.give_back();
    }
    CHECK(overmount::test::open_descriptors() == before);
}

TEST_CASE("a pool may be used from several threads")
{
    scripted_server server([](peer& client, int) {
        while (!client.read(1).empty())
            client.write("y");
    });
    std::atomic<int> done = 0, most = 0, now = 0;
    asio::thread_pool threads(4);
    asio::make_service<connection_pool>(threads, connection_limits().per_target(3).in_all(3));
    const auto task = [&]() -> asio::awaitable<void> {
        connection_pool& pool = connection_pool::of(co_await asio::this_coro::executor);
        for (int i = 0; i < 20; ++i) {
            auto link = co_await pool.acquire(target_of(server));
            const int using_now = ++now;
            for (int seen = most; seen < using_now && !most.compare_exchange_weak(seen, using_now);) {
            }
            co_await link->write("x", std::chrono::steady_clock::now() + 60s);
            std::byte one{};
            const auto count = co_await link->read_some({&one, 1}, std::chrono::steady_clock::now() + 60s);
            --now;
            if (count == 1 && one == std::byte('y'))
                ++done;
            if (i % 3 != 0)
                link.give_back();
        }
    };
    for (int i = 0; i < 10; ++i)
        asio::co_spawn(asio::make_strand(threads), task(), [](std::exception_ptr failure) {
            if (failure)
                std::terminate();
        });
    threads.join();
    CHECK(done == 200);
    CHECK(most <= 3);
    CHECK(most > 1);
}

TEST_CASE("the pool loads TLS settings once")
{
    const overmount::test::scratch_directory place;
    const certificate authority("authority"), own("server", "IP:127.0.0.1", &authority);
    const std::string file = (place / "ca.pem").string();
    authority.write(file);
    const auto context = own.server_context();
    scripted_server server([&](peer& client, int) {
        client.start_tls(context.get());
        client.wait_closed();
    });
    const auto target = connection_target::tls("127.0.0.1", server.port(), tls_settings().ca_file(file));
    pool_user user;
    user.take(target);
    user.settle(1);
    REQUIRE(user.granted().size() == 1);
    std::filesystem::remove(file);
    user.take(target);
    user.settle(2);
    CHECK(user.granted().size() == 2);
    CHECK_FALSE(user.at(1).is_reused());
    user.at(1).give_back(); // tickets that came after the handshake are no surprise
    user.take(target);
    user.settle(3);
    CHECK(user.at(2).is_reused());
}

} // namespace
