#include <overmount/io/resuming_stream.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"
#include "support/scripted_stream.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <memory>
#include <string>
#include <vector>

namespace asio = boost::asio;
namespace om = overmount;

using om::errc;
using om::test::scripted_stream;
using script = scripted_stream::script;
using namespace std::chrono_literals;

namespace {

const std::string content(200'000, 'x');

// Serves `content` from an offset, and breaks as the test demands.
struct server
{
    std::vector<std::uint64_t> asked;
    std::vector<std::size_t> breaks_after; // number of bytes for each connection in turn; later connections do not break
    boost::system::error_code breaks_with = asio::error::connection_reset;
    bool refuses = false;

    om::byte_stream stream(om::resume_policy policy)
    {
        return om::resuming_stream([this](std::uint64_t offset) { return open(this, offset); }, content.size(), std::move(policy));
    }

private:
    static asio::awaitable<om::byte_stream> open(server* self, std::uint64_t offset)
    {
        const std::size_t number = self->asked.size();
        self->asked.push_back(offset);
        if (self->refuses)
            throw om::error(asio::error::connection_refused).at(om::stage::source);
        auto what = std::make_shared<script>(content.substr(static_cast<std::size_t>(offset)), 700);
        if (number < self->breaks_after.size()) {
            what->bytes.resize(self->breaks_after[number]);
            what->ending = self->breaks_with;
        }
        co_return om::byte_stream(scripted_stream(co_await asio::this_coro::executor, std::move(what)));
    }
};

asio::awaitable<void> read_all(om::byte_stream from, std::string* into)
{
    std::vector<std::byte> piece(999);
    const std::span<std::byte> room(piece);
    while (const std::size_t count = co_await from.read_some(room))
        into->append(reinterpret_cast<const char*>(piece.data()), count);
}

om::resume_policy quick() { return om::resume_policy().attempts(3).delays(1ms, 4ms); }

om::error failure_of(om::byte_stream from, std::string& got)
{
    try {
        test::run_coroutine(read_all(std::move(from), &got));
    } catch (const om::error& failure) {
        return failure;
    }
    throw std::logic_error("no failure");
}

} // namespace

TEST_CASE("a stream resumes where it broke or ended early")
{
    server from;
    from.breaks_after = {1000, 0, 3333};
    from.breaks_with = GENERATE(asio::error::connection_reset, asio::error::eof);
    std::string got;
    test::run_coroutine(read_all(from.stream(quick()), &got));
    CHECK(got == content);
    CHECK(from.asked == std::vector<std::uint64_t>{0, 1000, 1000, 4333});
}

TEST_CASE("the next part is asked for at once, and as often as needed")
{
    server from;
    from.breaks_with = asio::error::eof;
    from.breaks_after = {65536, 70000};
    std::string got;
    test::run_coroutine(read_all(from.stream(om::resume_policy().attempts(0).delays(1h, 1h)), &got));
    CHECK(got == content);
    CHECK(from.asked == std::vector<std::uint64_t>{0, 65536, 135536});
    server sparing;
    sparing.breaks_with = asio::error::eof;
    sparing.breaks_after = {1, 1, 2000};
    got.clear();
    test::run_coroutine(read_all(sparing.stream(om::resume_policy().attempts(0).delays(1ms, 1h)), &got));
    CHECK(got == content);
    CHECK(sparing.asked == std::vector<std::uint64_t>{0, 1, 2, 2002});
}

TEST_CASE("a stream gives up with the last failure if no more bytes arrive")
{
    server from;
    from.breaks_after = std::vector<std::size_t>(100, 0);
    from.breaks_after[0] = 500;
    std::string got;
    CHECK(failure_of(from.stream(quick()), got).code() == asio::error::connection_reset);
    CHECK(got.size() == 500);
    CHECK(from.asked.size() == 4); // the first call and three retries
    server closed;
    closed.refuses = true;
    CHECK(failure_of(closed.stream(quick()), got).code() == asio::error::connection_refused);
    CHECK(closed.asked.size() == 4);
    server short_one;
    short_one.breaks_after = std::vector<std::size_t>(100, 0);
    short_one.breaks_with = asio::error::eof;
    CHECK(failure_of(short_one.stream(quick()), got).code() == errc::truncated_stream);
}

TEST_CASE("a source with a coroutine may end and fail like an Asio stream")
{
    struct source
    {
        boost::system::error_code ends;
        asio::awaitable<std::size_t> read_some(std::span<std::byte>) { return fail(ends); }
        static asio::awaitable<std::size_t> fail(boost::system::error_code with)
        {
            throw boost::system::system_error(with);
            co_return 0;
        }
    };
    std::string got;
    test::run_coroutine(read_all(om::byte_stream(source{asio::error::eof}), &got));
    CHECK(got.empty());
    const auto failure = failure_of(om::byte_stream(source{asio::error::connection_reset}), got);
    CHECK(failure.code() == asio::error::connection_reset);
    CHECK(failure.at() == om::stage::source);
}

TEST_CASE("a policy decides after which failures the stream retries")
{
    server from;
    from.breaks_after = {1000};
    std::string got;
    const auto policy = quick().only_after([](const om::error& failure) { return failure.code() == asio::error::timed_out; });
    CHECK(failure_of(from.stream(policy), got).code() == asio::error::connection_reset);
    CHECK(from.asked.size() == 1);
}

TEST_CASE("the delay grows with each failure, and a cancellation ends it")
{
    server from;
    from.refuses = true;
    asio::io_context context;
    asio::cancellation_signal signal;
    std::string got;
    std::exception_ptr ended;
    bool over = false;
    asio::co_spawn(context, read_all(from.stream(om::resume_policy().attempts(100).delays(20ms, 10min)), &got),
                   asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr failure) {
                       ended = failure;
                       over = true;
                   }));
    context.run_for(300ms);
    REQUIRE_FALSE(over);
    CHECK(from.asked.size() < 8);
    CHECK(from.asked.size() > 1);
    signal.emit(asio::cancellation_type::terminal);
    context.run_for(10s);
    CHECK(over);
    CHECK(ended);
}
