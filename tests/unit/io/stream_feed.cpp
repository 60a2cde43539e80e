#include <overmount/io/stream_feed.hpp>
#include <overmount/unpack/stream_input.hpp>

#include "support/catch.hpp"
#include "support/scripted_stream.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

namespace {

namespace asio = boost::asio;
using overmount::byte_stream;
using overmount::detail::stop_flag;
using overmount::detail::stream_feed;
using overmount::detail::stream_input;
using overmount::test::scripted_stream;

constexpr std::size_t buffer = 256 << 10, buffers = 4;

std::string noise(std::size_t size)
{
    std::string out;
    for (unsigned state = 1; out.size() < size; state = state * 1664525u + 1013904223u)
        out += static_cast<char>(state >> 24);
    return out;
}

// A feed that runs as far as it can without a reader.
struct running
{
    explicit running(std::string bytes, std::size_t piece = 4096)
        : what(std::make_shared<scripted_stream::script>(std::move(bytes), piece))
    {}
    void start()
    {
        asio::co_spawn(context,
                       stream_feed::run(feed, byte_stream(scripted_stream(context.get_executor(), what))),
                       asio::bind_cancellation_slot(signal.slot(), [this](std::exception_ptr failure) {
                           over = true;
                           CHECK_FALSE(failure); // the reader gets the failure instead
                       }));
        go_on();
    }
    void go_on()
    {
        context.restart();
        context.poll();
    }
    // Everything that the reader gets without waiting.
    std::string read(std::size_t room = 10000)
    {
        std::string out, piece(room, '\0');
        for (;;) {
            const auto count = feed->read(std::as_writable_bytes(std::span(piece)));
            at_end = count && *count == 0;
            if (!count || at_end)
                return out;
            out.append(piece, 0, *count);
        }
    }

    asio::io_context context;
    asio::cancellation_signal signal;
    std::shared_ptr<scripted_stream::script> what;
    std::shared_ptr<stream_feed> feed = std::make_shared<stream_feed>();
    bool over = false, at_end = false;
};

class counting_source
{
public:
    explicit counting_source(std::shared_ptr<std::pair<std::size_t, unsigned>> record) : seen_(std::move(record)) {}
    asio::awaitable<std::size_t> read_some(std::span<std::byte> into) { return read(seen_, into); }

private:
    static asio::awaitable<std::size_t> read(std::shared_ptr<std::pair<std::size_t, unsigned>> seen, std::span<std::byte> into)
    {
        const std::size_t count = std::min<std::size_t>({into.size(), seen->first, 1000});
        seen->first -= count;
        seen->second += into.empty();
        co_return count;
    }
    std::shared_ptr<std::pair<std::size_t, unsigned>> seen_; // bytes left, and reads into no room
};

TEST_CASE("a source is never asked to read into no room")
{
    const auto seen = std::make_shared<std::pair<std::size_t, unsigned>>(3 * buffer + 1, 0);
    asio::io_context context;
    const auto feed = std::make_shared<stream_feed>();
    asio::co_spawn(context, stream_feed::run(feed, byte_stream(counting_source(seen))), asio::detached);
    context.run();
    CHECK(seen->first == 0);
    CHECK(seen->second == 0);
}

TEST_CASE("the reader gets the bytes of a stream in order, then its end")
{
    const std::size_t size = GENERATE(as<std::size_t>(), 0, 1, buffer - 1, buffer, buffer + 1, 3 * buffer);
    const std::size_t piece = GENERATE(as<std::size_t>(), 1000, 1 << 20);
    CAPTURE(size, piece);
    running one(noise(size), piece);
    one.start();
    CHECK(one.over);
    CHECK(one.read() == one.what->bytes);
    CHECK(one.at_end);
    CHECK(one.read().empty());
    CHECK(one.at_end);
}

TEST_CASE("a feed reads ahead only as much as its buffers hold, and continues when one is free")
{
    running one(noise(7 * buffer));
    one.start();
    CHECK(one.what->given == buffers * buffer);
    one.feed->consume(buffer - 1);
    one.go_on();
    CHECK(one.what->given == buffers * buffer);
    one.feed->consume(1);
    one.go_on();
    CHECK(one.what->given == (buffers + 1) * buffer);
    std::string rest;
    while (!one.at_end) {
        rest += one.read();
        one.go_on();
    }
    CHECK(rest == one.what->bytes.substr(buffer));
}

TEST_CASE("the reader gets a failure of the stream after all bytes that preceded it")
{
    const std::size_t size = GENERATE(as<std::size_t>(), 0, 100, buffer, buffer + 100);
    CAPTURE(size);
    running one(noise(size));
    one.what->ending = asio::error::connection_reset;
    one.start();
    std::string got;
    for (int i = 0; i < 2; ++i) { // the failure persists
        try {
            for (;;) {
                const auto bytes = one.feed->front();
                REQUIRE(bytes);
                REQUIRE_FALSE(bytes->empty());
                got.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
                one.feed->consume(bytes->size());
            }
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == asio::error::connection_reset);
            CHECK(failure.at() == overmount::stage::source);
            CHECK(failure.operation() == "read");
        }
    }
    CHECK(got == one.what->bytes);
}

TEST_CASE("cancelling a feed ends it and its reader")
{
    running one(noise(100));
    one.what->endless = true;
    one.start();
    CHECK_FALSE(one.over);
    CHECK_FALSE(one.feed->front());
    one.signal.emit(asio::cancellation_type::terminal);
    one.go_on();
    CHECK(one.over);
    try {
        while (const auto bytes = one.feed->front())
            one.feed->consume(bytes->size());
        FAIL("it waits");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == asio::error::operation_aborted);
    }
}

TEST_CASE("cancelling a feed that waits for a free buffer ends it")
{
    running one(noise(7 * buffer));
    one.start();
    CHECK_FALSE(one.over);
    one.signal.emit(asio::cancellation_type::terminal);
    one.go_on();
    CHECK(one.over);
    CHECK(one.what->given == buffers * buffer);
}

TEST_CASE("a feed releases its stream when its context is destroyed")
{
    auto what = std::make_shared<scripted_stream::script>("text");
    auto feed = std::make_shared<stream_feed>();
    what->endless = true;
    {
        asio::io_context context;
        asio::co_spawn(context, stream_feed::run(feed, byte_stream(scripted_stream(context.get_executor(), what))),
                       [](std::exception_ptr) { FAIL("it went on"); });
        context.poll();
        CHECK(what.use_count() > 1);
    }
    CHECK(what.use_count() == 1);
    CHECK(feed.use_count() == 1);
}

// Consumes all available bytes and counts how often it runs.
class collecting_step final : public overmount::detail::step
{
public:
    collecting_step(std::shared_ptr<stream_feed> feed, std::string& out) : input_(std::move(feed), std::nullopt, std::uint64_t{1} << 40), out_(&out) {}

private:
    overmount::detail::step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        std::array<std::byte, 5000> piece;
        const auto count = input_.read(piece);
        if (!count)
            return overmount::detail::step_state::wait;
        out_->append(reinterpret_cast<const char*>(piece.data()), *count);
        return *count == 0 ? overmount::detail::step_state::done : overmount::detail::step_state::again;
    }
    stream_input input_;
    std::string* out_;
};

TEST_CASE("a waiting step is notified for each buffer and for the end")
{
    running one(noise(9 * buffer + 10), 60000);
    std::string got;
    auto group = std::make_shared<overmount::detail::step_group>();
    auto collecting = std::make_shared<collecting_step>(one.feed, got);
    one.feed->set_reader(collecting);
    group->add(std::move(collecting));
    bool done = false;
    asio::co_spawn(one.context, run_steps(overmount::worker_pool(1), std::move(group)),
                   [&done](std::exception_ptr failure) {
                       CHECK_FALSE(failure);
                       done = true;
                   });
    asio::co_spawn(one.context, stream_feed::run(one.feed, byte_stream(scripted_stream(one.context.get_executor(), one.what))),
                   [](std::exception_ptr) {});
    one.context.run_for(std::chrono::seconds(60));
    CHECK(done);
    CHECK(got == one.what->bytes);
}

} // namespace
