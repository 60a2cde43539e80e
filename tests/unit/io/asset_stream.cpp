#include <overmount/io/asset_stream.hpp>
#include <overmount/io/byte_stream.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
namespace om = overmount;

using boost::system::error_code;

namespace {

// Returns a text in pieces of three bytes, then its end or a failure.
class text_source final : public om::asset_stream::source
{
public:
    explicit text_source(std::string text, std::function<void()> at_end = [] {}) : text_(std::move(text)), at_end_(std::move(at_end)) {}
    std::size_t read(std::span<std::byte> into) override
    {
        if (text_.empty())
            at_end_();
        const std::size_t count = std::min({text_.size(), into.size(), std::size_t(3)});
        std::memcpy(into.data(), text_.data(), count);
        text_.erase(0, count);
        return count;
    }

private:
    std::string text_;
    std::function<void()> at_end_;
};

struct place
{
    [[nodiscard]] om::asset_stream stream(std::string text, std::function<void()> at_end = [] {})
    {
        auto source = std::make_shared<text_source>(std::move(text), std::move(at_end));
        return om::asset_stream(std::move(source), pool, context.get_executor(), 7);
    }
    // The result of reading everything.
    struct end
    {
        error_code failure;
        std::size_t count = 0;
        bool over = false;
    };
    [[nodiscard]] auto note(end& where)
    {
        return [&where](error_code failure, std::size_t count) { where = {failure, count, true}; };
    }
    asio::io_context context;
    om::worker_pool pool{1};
};

static_assert(om::async_read_stream<om::asset_stream>);

TEST_CASE("asio::async_read reads an asset stream to its end")
{
    place at;
    auto stream = at.stream("abcdefg");
    CHECK(stream.get_executor() == asio::any_io_executor(at.context.get_executor()));
    std::string whole(7, ' ');
    place::end first, last;
    asio::async_read(stream, asio::buffer(whole), at.note(first));
    CHECK_FALSE(first.over);
    at.context.run();
    CHECK(first.over);
    CHECK_FALSE(first.failure);
    CHECK(whole == "abcdefg");
    at.context.restart();
    asio::async_read(stream, asio::buffer(whole), at.note(last));
    at.context.run();
    CHECK(last.failure == asio::error::eof);
    CHECK(last.count == 0);
}

TEST_CASE("a read fills the first buffer that is not empty, and a read without room reads nothing")
{
    place at;
    auto stream = at.stream("abcd");
    std::string room(2, ' ');
    const std::array<asio::mutable_buffer, 2> buffers{asio::mutable_buffer(), asio::buffer(room)};
    place::end one, none;
    stream.async_read_some(buffers, at.note(one));
    at.context.run();
    CHECK(room == "ab");
    CHECK(one.count == 2);
    at.context.restart();
    stream.async_read_some(asio::mutable_buffer(), at.note(none));
    CHECK_FALSE(none.over); // the handler never runs inside of the call
    at.context.run();
    CHECK(none.over);
    CHECK_FALSE(none.failure);
    CHECK(none.count == 0);
}

TEST_CASE("a failure of the storage becomes the error code of the read")
{
    const auto failure_of = [](std::function<void()> at_end) {
        place at;
        auto stream = at.stream("", std::move(at_end));
        std::string room(2, ' ');
        place::end out;
        stream.async_read_some(asio::buffer(room), at.note(out));
        at.context.run();
        CHECK(out.over);
        CHECK(out.count == 0);
        return out.failure;
    };
    CHECK(failure_of([] { throw om::error(om::errc::diff_changed); }) == om::errc::diff_changed);
    CHECK(failure_of([] { throw std::bad_alloc(); }) == boost::system::errc::not_enough_memory);
    CHECK(failure_of([] { throw std::runtime_error("its own"); }) == boost::system::errc::io_error);
}

TEST_CASE("the handler of a read runs on its own executor")
{
    place at;
    auto stream = at.stream("abc");
    asio::io_context other;
    std::string room(2, ' ');
    place::end out;
    stream.async_read_some(asio::buffer(room), asio::bind_executor(other.get_executor(), at.note(out)));
    at.context.run();
    CHECK_FALSE(out.over);
    other.run(); // the read kept it from running out of work
    CHECK(out.over);
    CHECK(room == "ab");
}

TEST_CASE("the slot of its token cancels a read that waits for a worker")
{
    std::atomic<bool> free = false; // lives as long as the worker that waits for it
    place at;
    at.pool.post([&free] { free.wait(false); });
    auto stream = at.stream("abc");
    std::string room(2, ' ');
    asio::cancellation_signal signal;
    place::end out;
    stream.async_read_some(asio::buffer(room), asio::bind_cancellation_slot(signal.slot(), at.note(out)));
    at.context.poll();
    CHECK_FALSE(out.over);
    signal.emit(asio::cancellation_type::terminal);
    at.context.run();
    CHECK(out.failure == asio::error::operation_aborted);
    free = true;
    free.notify_all();
}

TEST_CASE("a context may be destroyed while a stream is read")
{
    std::string room(2, ' ');
    bool called = false;
    std::atomic<bool> free = false;
    {
        place at;
        at.pool.post([&free] { free.wait(false); });
        auto stream = at.stream("abc");
        stream.async_read_some(asio::buffer(room), [&called](error_code, std::size_t) { called = true; });
        at.context.poll();
        free = true;
        free.notify_all();
    }
    CHECK_FALSE(called);
}

} // namespace
