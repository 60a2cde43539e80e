#include <overmount/registry/host_memory.hpp>

#include <overmount/registry/client.hpp>

#include "scripted_server.hpp"
#include "support/catch.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace om = overmount;
using namespace std::chrono_literals;
using om::registry::client;
using om::registry::detail::host_memory;
using om::registry::secret;
using om::registry::detail::shared_token;
using om::registry::token_answer;
using om::registry::url;
using om::test::peer;
using om::test::scripted_server;
using clock_type = std::chrono::steady_clock;

secret header_of(const std::string& token) { return om::registry::authorization::bearer_header(token); }

std::string answer_of(const std::string& status, const std::string& headers, const std::string& body)
{
    return "HTTP/1.1 " + status + "\r\n" + headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

bool shows(const std::string& request, const std::string& token)
{
    return request.find("Authorization: " + header_of(token).reveal() + "\r\n") != std::string::npos;
}

// A registry that wants a token, which it gives itself, and has the tags of every repository.
class token_registry
{
public:
    // \param busy  a value of Retry-After that it answers once with
    // \param realm the host of another registry that gives the tokens
    explicit token_registry(std::string busy = {}, std::string realm = {}) : busy_(std::move(busy)), realm_host_(std::move(realm)), server_([this](peer& from, int) { serve(from); }) {}

    [[nodiscard]] std::string host() const { return "127.0.0.1:" + std::to_string(server_.port()); }
    [[nodiscard]] std::ptrdiff_t count(const std::string& begin)
    {
        const auto all = server_.records();
        return std::count_if(all.begin(), all.end(), [&](const std::string& one) { return one.starts_with(begin); });
    }

    // From now on nobody gets a token, once so many have asked for tags.
    void refuse_logins(std::ptrdiff_t askers) { askers_ = askers; }
    // From now on other tokens are given, and those before are refused: with 403, or else with 401.
    void revoke(bool forbids)
    {
        forbids_ = forbids;
        ++generation_;
    }

private:
    [[nodiscard]] std::string wanted() const
    {
        return "WWW-Authenticate: Bearer realm=\"http://" + (realm_host_.empty() ? host() : realm_host_) + "/token\",service=\"all\"\r\n";
    }
    void serve(peer& from)
    {
        for (std::string asked = from.read(1); !asked.empty(); asked = from.read(1)) {
            if (asked == "\x16") { // TLS is tried first
                from.write("HTTP/1.1 400 Bad Request\r\n\r\n");
                return;
            }
            asked += from.head();
            server_.record(asked);
            while (asked.starts_with("GET /token") && count("GET /v2/a/tags") < askers_)
                std::this_thread::yield();
            if (asked.starts_with("GET /token") && askers_ != 0)
                from.write(answer_of("401 Unauthorized", "", ""));
            else if (asked.starts_with("GET /token"))
                from.write(answer_of("200 OK", "", R"({"token":"good)" + std::to_string(generation_) + R"(","expires_in":300})"));
            else if (asked.find("Authorization: Bearer ") != std::string::npos && !shows(asked, "good" + std::to_string(generation_)))
                from.write(forbids_ ? answer_of("403 Forbidden", "", "") : answer_of("401 Unauthorized", wanted(), ""));
            else if (asked.find("Authorization: ") == std::string::npos)
                from.write(answer_of("401 Unauthorized", wanted(), ""));
            else if (!busy_.empty() && !was_busy_.exchange(true))
                from.write(answer_of("503 Service Unavailable", "Retry-After: " + busy_ + "\r\n", ""));
            else
                from.write(answer_of("200 OK", "", R"({"name":"a","tags":["1"]})"));
        }
    }
    std::string busy_, realm_host_;
    std::atomic<std::ptrdiff_t> askers_ = 0;
    std::atomic<bool> was_busy_ = false, forbids_ = false;
    std::atomic<int> generation_ = 0;
    scripted_server server_;
};

// What a client of its own finds.
asio::awaitable<std::vector<std::string>> tags_of(std::string name, om::registry_credentials as)
{
    om::registry_options options;
    options.settings_of_user(false).tls(om::registry::tls_mode::unverified).credentials(std::move(as));
    const client own = co_await client::open(om::worker_pool(1), om::reference::parse(name), std::move(options), om::limits());
    co_return co_await own.tags();
}

} // namespace

TEST_CASE("host memory: a token is there until it expires or is refused")
{
    shared_token shared;
    const auto now = clock_type::now();
    CHECK(shared.get(now).empty());
    shared.set(token_answer(secret("one"), now + 10s));
    CHECK(shared.get(now).reveal() == "one");
    CHECK(shared.get(now + 10s).empty());
    shared.forget(header_of("another"));
    CHECK(shared.get(now).reveal() == "one");
    shared.forget(header_of("one"));
    CHECK(shared.get(now).empty());
}

TEST_CASE("host memory: everybody has the same gate of a host, and the same token for what is asked")
{
    host_memory memory;
    const auto gate = memory.gate(url::parse("https://a.example/v2/"), true);
    CHECK(gate == memory.gate(url::parse("http://a.example:443/else"), true));
    CHECK(gate != memory.gate(url::parse("https://a.example:444/v2/"), true));
    CHECK(gate != memory.gate(url::parse("https://b.example/v2/"), true));
    CHECK(gate != memory.gate(url::parse("https://a.example/v2/"), false));
    CHECK(memory.token("one") == memory.token("one"));
    CHECK(memory.token("one") != memory.token("two"));
}

TEST_CASE("host memory: what is in use is kept, and of the rest a bounded number")
{
    host_memory memory;
    const auto used = memory.token("used");
    const auto closed = memory.gate(url::parse("https://closed.example/"), true);
    const auto end = clock_type::now() + 1h;
    closed->close_until(end);
    const std::weak_ptr<shared_token> unused = memory.token("unused");
    for (std::size_t i = 0; i < 3 * host_memory::max_entries; ++i) {
        static_cast<void>(memory.token(std::to_string(i)));
        static_cast<void>(memory.gate(url::parse("https://host" + std::to_string(i) + ".example/"), true));
    }
    CHECK(unused.expired());
    CHECK(memory.token("used") == used);
    CHECK(memory.gate(url::parse("https://closed.example/"), true)->not_before() == end);
}

TEST_CASE("host memory: a context has one, which those who use it keep")
{
    std::shared_ptr<host_memory> kept;
    {
        asio::io_context context, other;
        kept = host_memory::of(context.get_executor());
        CHECK(kept == host_memory::of(context.get_executor()));
        CHECK(kept != host_memory::of(other.get_executor()));
    }
    CHECK(kept->token("one") != nullptr);
}

TEST_CASE("clients of one context fetch a token together, and those with other credentials their own")
{
    token_registry there;
    asio::io_context context;
    const auto me = om::registry_credentials::password("me", "1"), you = om::registry_credentials::password("you", "2");
    int ended = 0;
    for (const auto& as : {me, me, you, me})
        asio::co_spawn(context, tags_of(there.host() + "/a", as), [&](std::exception_ptr failure, std::vector<std::string> found) {
            CHECK_FALSE(failure);
            CHECK(found == std::vector<std::string>{"1"});
            ++ended;
        });
    context.run_for(120s);
    CHECK(ended == 4);
    CHECK(there.count("GET /token") == 2);
}

TEST_CASE("a client leaves a host alone that asked another client of its context for that")
{
    token_registry there("2");
    asio::io_context context;
    int ended = 0;
    const auto end = [&ended](std::exception_ptr failure, const std::vector<std::string>&) {
        CHECK_FALSE(failure);
        ++ended;
    };
    const auto name = there.host() + "/a";
    const auto gate = host_memory::of(context.get_executor())->gate(url::parse("http://" + there.host()), false);
    asio::co_spawn(context, tags_of(name, {}), end);
    while (gate->not_before() == om::registry::host_gate::time_point() && context.run_one_for(60s) != 0) {
    }
    REQUIRE(gate->not_before() > clock_type::now());
    const auto asked = there.count("GET /v2/a/tags");
    asio::co_spawn(context, tags_of(name, {}), end);
    while (clock_type::now() < gate->not_before() - 100ms)
        context.run_for(10ms);
    CHECK(there.count("GET /v2/a/tags") == asked);
    context.run_for(120s);
    CHECK(ended == 2);
    CHECK(there.count("GET /v2/a/tags") > asked + 1);
}

TEST_CASE("a token that was revoked is fetched again, by the pull that notices or by the next one")
{
    token_registry there;
    asio::io_context context;
    const auto succeeds = [&] {
        std::exception_ptr failure;
        asio::co_spawn(context, tags_of(there.host() + "/a", {}),
                       [&failure](std::exception_ptr ended, const std::vector<std::string>&) { failure = ended; });
        context.restart();
        context.run_for(120s);
        return !failure;
    };
    CHECK(succeeds());
    CHECK(succeeds());
    CHECK(there.count("GET /token") == 1);
    there.revoke(false);
    CHECK(succeeds());
    CHECK(there.count("GET /token") == 2);
    there.revoke(true);
    CHECK_FALSE(succeeds());
    CHECK(succeeds());
    CHECK(there.count("GET /token") == 3);
}

TEST_CASE("a token is for one registry, even if another names the same token server")
{
    token_registry there;
    const token_registry other({}, there.host());
    asio::io_context context;
    int ended = 0;
    const auto end = [&ended](std::exception_ptr failure, const std::vector<std::string>&) {
        CHECK_FALSE(failure);
        ++ended;
    };
    asio::co_spawn(context, tags_of(there.host() + "/a", {}), end);
    context.run_for(120s);
    asio::co_spawn(context, tags_of(other.host() + "/a", {}), end);
    context.restart();
    context.run_for(120s);
    CHECK(ended == 2);
    CHECK(there.count("GET /token") == 2);
}

TEST_CASE("those who wait for a token that is not given fail together")
{
    token_registry there;
    there.refuse_logins(4);
    asio::io_context context;
    int failed = 0;
    const auto me = om::registry_credentials::password("me", "1");
    for (int i = 0; i < 4; ++i)
        asio::co_spawn(context, tags_of(there.host() + "/a", me), [&failed](std::exception_ptr failure, const std::vector<std::string>&) {
            failed += failure != nullptr;
        });
    context.run_for(120s);
    CHECK(failed == 4);
    CHECK(there.count("GET /token") < 4);
}

TEST_CASE("a login is checked by a token of its own")
{
    token_registry there;
    asio::io_context context;
    const auto log_in = [&] {
        int ended = 0;
        const auto check = [](std::string name) -> asio::awaitable<void> {
            om::registry_options options;
            options.settings_of_user(false).tls(om::registry::tls_mode::unverified).credentials(om::registry_credentials::password("me", "1"));
            const client own = co_await client::open(om::worker_pool(1), om::reference::parse(name), std::move(options), om::limits());
            co_await own.log_in();
        };
        asio::co_spawn(context, check(there.host() + "/a"), [&ended](std::exception_ptr failure) { ended += failure == nullptr; });
        context.restart();
        context.run_for(120s);
        return ended == 1;
    };
    CHECK(log_in());
    CHECK(log_in());
    CHECK(there.count("GET /token") == 2);
}
