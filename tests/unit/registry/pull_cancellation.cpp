// Pulls that are cancelled at random moments, from a registry in this process that is slow and sometimes fails. Afterwards nothing
// of them is left in the repository or in the process. OVERMOUNT_ROUNDS: how many are cancelled, of each kind; OVERMOUNT_SEED: of the
// random numbers.
#include <overmount/overmount.hpp>
#include <overmount/registry.hpp>
#include <overmount/registry/connection_pool.hpp>

#include "scripted_server.hpp"
#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/open_descriptors.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace om = overmount;
using namespace std::chrono_literals;
using om::registry::connection_pool;
using om::test::certificate;
using om::test::peer;
using om::test::scripted_server;

std::uint64_t seed_of_run()
{
    static const std::uint64_t seed = [] {
        const char* given = std::getenv("OVERMOUNT_SEED");
        const std::uint64_t chosen = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
        std::printf("OVERMOUNT_SEED=%llu\n", static_cast<unsigned long long>(chosen));
        return chosen;
    }();
    return seed;
}

int rounds_of_run()
{
    const char* asked = std::getenv("OVERMOUNT_ROUNDS");
    return asked != nullptr ? std::atoi(asked) : 5;
}

// Layers that do not compress, so that their bodies come in many pieces.
const om::test::image_source& pulled_image()
{
    static const om::test::image_source made = [] {
        om::test::image_source out;
        std::mt19937 random(1);
        for (int i = 0; i < 6; ++i) {
            std::string noise(static_cast<std::size_t>(60000 + 40000 * i), '\0');
            for (char& c : noise)
                c = static_cast<char>(random());
            const std::string name = "d/" + std::to_string(i);
            out.layers.push_back({om::test::tar_writer().directory("d").file(name, noise).finish()});
        }
        return out;
    }();
    return made;
}

// Serves one image as app:1, in pieces, with pauses; some bodies end early or stall for a moment, some requests are refused.
class slow_registry
{
public:
    explicit slow_registry(std::shared_ptr<::SSL_CTX> tls) : tls_(std::move(tls)), random_(seed_of_run())
    {
        om::test::oci_layout_writer layout;
        const std::string listed = layout.add_manifest(pulled_image());
        for (const std::string& path : layout.files().paths())
            if (path.starts_with("blobs/sha256/"))
                answers_["/v2/app/blobs/sha256:" + path.substr(13)] = layout.files().content(path);
        const auto digest = listed.find("sha256:"); // of the manifest's descriptor
        answers_["/v2/app/manifests/1"] = answers_.at("/v2/app/blobs/" + listed.substr(digest, 71));
        server_.emplace([this](peer& client, int) { serve(client); });
    }

    [[nodiscard]] std::string image_name() const { return "127.0.0.1:" + std::to_string(server_->port()) + "/app:1"; }
    [[nodiscard]] scripted_server& server() { return *server_; }

private:
    unsigned random()
    {
        const std::lock_guard guard(mutex_);
        return static_cast<unsigned>(random_() >> 11);
    }
    void serve(peer& client)
    {
        if (tls_ && !client.start_tls(tls_.get()))
            return;
        while (true) {
            std::string head = client.read(1);
            if (head == "\x16") { // the client tries TLS first
                client.write("HTTP/1.1 400 Bad Request\r\n\r\n");
                return;
            }
            head += client.head();
            if (head.empty() || !answer(client, head))
                return;
        }
    }
    // False ends the connection.
    bool answer(peer& client, const std::string& head)
    {
        const auto path = head.find(' ') + 1;
        const std::string asked = head.substr(path, head.find(' ', path) - path);
        const bool is_blob = asked.find("/blobs/") != std::string::npos;
        const auto found = answers_.find(asked);
        if (found == answers_.end())
            return client.write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        const std::string& body = found->second;
        client.pause(std::chrono::microseconds(random() % 2000));
        const unsigned fate = is_blob ? random() % 64 : 64;
        if (fate == 0)
            return client.write("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        const auto range = head.find("Range: bytes=");
        const std::size_t begin = range == std::string::npos ? 0 : std::strtoul(head.c_str() + range + 13, nullptr, 10);
        const std::string type = is_blob ? "application/octet-stream" : "application/vnd.oci.image.manifest.v1+json";
        const std::string status =
            range == std::string::npos ? "200 OK"
                                       : "206 Partial Content\r\nContent-Range: bytes " + std::to_string(begin) + "-" +
                                             std::to_string(body.size() - 1) + "/" + std::to_string(body.size());
        if (!client.write("HTTP/1.1 " + status + "\r\nContent-Type: " + type +
                          "\r\nContent-Length: " + std::to_string(body.size() - begin) + "\r\n\r\n"))
            return false;
        const std::size_t cut = fate == 1 ? begin + random() % (body.size() - begin) : body.size();
        const std::size_t stall = fate == 2 ? begin + random() % (body.size() - begin) : body.size();
        for (std::size_t at = begin; at < body.size();) {
            const std::size_t piece = std::min<std::size_t>(1 + random() % 30000, std::min(body.size(), cut) - at);
            if (piece == 0 || !client.write(std::string_view(body).substr(at, piece)))
                return false;
            at += piece;
            client.pause(at > stall && at - piece <= stall ? 20000us : std::chrono::microseconds(random() % 500));
        }
        return true;
    }

    std::shared_ptr<::SSL_CTX> tls_;
    std::mutex mutex_;
    std::mt19937_64 random_;
    std::map<std::string, std::string> answers_;
    std::optional<scripted_server> server_; // last: its threads use the rest
};

// A context with threads, which stays alive between the pulls: a place or permit that one of them loses is missing then.
class running_context
{
public:
    explicit running_context(unsigned threads) : context(static_cast<int>(threads)), busy_(context.get_executor())
    {
        for (unsigned i = 0; i < threads; ++i)
            threads_.emplace_back([this] { context.run(); });
    }
    ~running_context()
    {
        busy_.reset();
        for (std::thread& one : threads_)
            one.join();
    }

    asio::io_context context;

private:
    asio::executor_work_guard<asio::io_context::executor_type> busy_;
    std::vector<std::thread> threads_;
};

// An operation on a strand of the context, cancelled after a time unless that is zero.
class started
{
public:
    started(asio::io_context& context, asio::awaitable<void> what, std::chrono::steady_clock::duration cancelled_after = {})
        : strand_(asio::make_strand(context)), timer_(strand_), end_(ended_.get_future())
    {
        asio::co_spawn(strand_, std::move(what),
                       asio::bind_cancellation_slot(signal_.slot(), [this](std::exception_ptr why) {
                           over_ = true;
                           timer_.cancel();
                           ended_.set_value(why);
                       }));
        if (cancelled_after.count() != 0) {
            on_strand([&] { // when the operation has begun
                if (over_)
                    return;
                timer_.expires_after(cancelled_after);
                timer_.async_wait([this](boost::system::error_code) {
                    if (!over_)
                        signal_.emit(asio::cancellation_type::terminal);
                });
            });
        }
    }
    // Waits for the end. True if the operation was done, false if it was cancelled.
    bool done()
    {
        if (end_.wait_for(120s) != std::future_status::ready) {
            std::fputs("a pull does not end\n", stderr);
            std::abort(); // its frames refer to what would be destroyed
        }
        on_strand([] {}); // the handlers have returned
        on_strand([] {});
        try {
            if (const std::exception_ptr failure = end_.get())
                std::rethrow_exception(failure);
            return true;
        } catch (const om::error& failure) {
            INFO(failure.what());
            REQUIRE(failure.code() == asio::error::operation_aborted);
            return false;
        }
    }

private:
    template <class Function>
    void on_strand(Function what)
    {
        std::promise<void> called;
        asio::post(strand_, [&] {
            what();
            called.set_value();
        });
        called.get_future().wait();
    }

    asio::strand<asio::io_context::executor_type> strand_;
    asio::steady_timer timer_;
    asio::cancellation_signal signal_;
    bool over_ = false; // on the strand
    std::promise<std::exception_ptr> ended_;
    std::future<std::exception_ptr> end_;
};

asio::awaitable<void> pull(om::repository on, om::registry_image source)
{
    const om::import_options options = om::import_options().wanted({"linux", "amd64"});
    co_await on.import_images(std::move(source), options);
}

// A registry and a repository, and what is open between pulls.
class subject
{
public:
    subject(bool with_tls, unsigned threads)
        : authority_("authority"), own_("server", "IP:127.0.0.1", &authority_),
          registry(with_tls ? own_.server_context() : nullptr), running(threads),
          on(::test::get(om::repository::open(scratch_ / "repository", om::repository_options().workers(2).sync(om::durability::none))))
    {
        fs::create_directory(scratch_ / "certs");
        authority_.write(scratch_ / "certs" / "ca.crt");
        const auto began = std::chrono::steady_clock::now();
        REQUIRE(started(running.context, pull(on, source())).done());
        usual_time = std::chrono::steady_clock::now() - began;
        check_pulled();
        empty();
        const std::size_t waiting = idle();
        REQUIRE(registry.server().waits_for([waiting](std::size_t open) { return open == waiting; }));
        descriptors_ = open_descriptors();
    }

    [[nodiscard]] om::registry_image source() const
    {
        const auto options = om::registry_options().settings_of_user(false).certificates((scratch_ / "certs").string());
        return om::registry_image(registry.image_name(), options);
    }
    [[nodiscard]] om::test::scratch_directory& scratch() { return scratch_; }

    void check_pulled()
    {
        CHECK(on.find_image(registry.image_name()).layers().size() == pulled_image().layers.size());
        CHECK(::test::get(on.check()).ok());
    }
    // Nothing of a pull that was cancelled, except for layers that were finished before.
    void check_cancelled()
    {
        CHECK(on.images().empty());
        CHECK(on.tags().empty());
        CHECK(::test::get(on.check()).ok());
    }
    void check_left()
    {
        for (const char* part : {"tmp", "claims", "leases"})
            CHECK(fs::is_empty(scratch_ / "repository" / part));
        // No connection is in use: those that are open wait in the pool.
        const bool gone =
            registry.server().waits_for([this](std::size_t open) { return open == idle() && open_descriptors() == descriptors_; });
        CAPTURE(idle(), open_descriptors(), descriptors_);
        CHECK(gone);
    }
    void empty()
    {
        for (const om::image& one : on.images())
            ::test::get(on.remove_image(one.id()));
        static_cast<void>(::test::get(on.collect()));
        CHECK(on.layers().empty());
    }

private:
    [[nodiscard]] std::size_t idle() { return connection_pool::of(running.context.get_executor()).idle(); }
    // Without the connections in the pool; both their ends are in this process.
    std::size_t open_descriptors() { return om::test::open_descriptors() - 2 * idle(); }

    om::test::scratch_directory scratch_;
    certificate authority_, own_;
    std::size_t descriptors_ = 0;

public:
    slow_registry registry;
    running_context running;
    om::repository on;
    std::chrono::steady_clock::duration usual_time;
};

std::chrono::steady_clock::duration part_of(std::chrono::steady_clock::duration whole, std::mt19937_64& random)
{
    return whole * static_cast<long>(1 + random() % 1000) / 1000;
}

} // namespace

TEST_CASE("a pull that is cancelled at a random moment leaves no file, lease, claim, descriptor or connection", "[pull_cancellation]")
{
    const bool with_tls = GENERATE(false, true);
    const unsigned threads = GENERATE(1u, 4u);
    const std::uint64_t seed = seed_of_run();
    const std::size_t before = om::test::open_descriptors();
    const int rounds = rounds_of_run();
    int cancelled = 0, pulls = 0;
    {
        subject at(with_tls, threads);
        std::mt19937_64 random(seed);
        for (; cancelled < rounds && pulls < 20 * rounds; ++pulls) { // some are done before
            CAPTURE(seed, with_tls, threads, pulls);
            started one(at.running.context, pull(at.on, at.source()), part_of(at.usual_time, random));
            if (one.done()) {
                at.check_pulled();
            } else {
                ++cancelled;
                at.check_cancelled();
            }
            at.check_left();
            if (pulls % 4 == 3) { // what is left of it in memory does no harm either
                REQUIRE(started(at.running.context, pull(at.on, at.source())).done());
                at.check_pulled();
                at.check_left();
            }
            at.empty();
        }
    }
    CHECK(om::test::open_descriptors() == before);
    CHECK(cancelled == rounds);
    std::printf("%d of %d pulls were cancelled, TLS %d, %u threads\n", cancelled, pulls, with_tls, threads);
}

TEST_CASE("a pull that is cancelled does not disturb another one that waits for its layers", "[pull_cancellation]")
{
    const unsigned threads = GENERATE(1u, 4u);
    const std::uint64_t seed = seed_of_run();
    subject at(false, threads);
    std::mt19937_64 random(seed);
    for (int round = 0; round < (rounds_of_run() + 1) / 2; ++round) {
        CAPTURE(seed, threads, round);
        started first(at.running.context, pull(at.on, at.source()), part_of(at.usual_time, random));
        started second(at.running.context, pull(at.on, at.source()));
        started third(at.running.context, pull(at.on, at.source()), part_of(at.usual_time, random));
        first.done();
        third.done();
        REQUIRE(second.done());
        at.check_pulled();
        at.check_left();
        at.empty();
    }
}
