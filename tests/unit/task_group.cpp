#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fstream>
#include <memory>
#include <string>

namespace asio = boost::asio;
namespace om = overmount;

using ::test::get;
using std::chrono::steady_clock;

namespace {

// Waits until it is cancelled, and then counts up `ended`.
asio::awaitable<void> last_for_ever(int* ended)
{
    struct note
    {
        explicit note(int* where) : count(where) {}
        ~note() { ++*count; }
        int* count;
    };
    const note at_end(ended);
    asio::steady_timer never(co_await asio::this_coro::executor, steady_clock::time_point::max());
    co_await never.async_wait(asio::use_awaitable);
}
asio::awaitable<int> give(int value)
{
    co_await asio::post(asio::use_awaitable);
    co_return value;
}
asio::awaitable<void> fail()
{
    co_await asio::post(asio::use_awaitable);
    throw om::error(om::errc::image_not_found);
}

boost::system::error_code failure_of(asio::awaitable<void> operation)
{
    try {
        get(std::move(operation));
    } catch (const boost::system::system_error& failure) {
        return failure.code();
    }
    return {};
}

constexpr auto long_time = std::chrono::hours(1), no_time = std::chrono::hours(0);

} // namespace

TEST_CASE("operations of a group run at the same time and store their results")
{
    const om::test::scratch_directory scratch;
    std::ofstream(scratch / "tar", std::ios::binary) << om::test::tar_writer().file("f", "text").finish();
    std::ofstream(scratch / "other", std::ios::binary) << om::test::tar_writer().file("g", "text").finish();
    const auto on = get(om::repository::open(scratch / "repository", om::repository_options().workers(2).sync(om::durability::none)));
    om::task_group group;
    om::layer one, other;
    group.add(on.create_layer(scratch / "tar"), one);
    group.add(on.create_layer(scratch / "other"), other);
    get(group.join(long_time));
    CHECK(on.contains(one));
    CHECK(on.contains(other));
    CHECK(one != other);
    // A group can be joined again, with operations that were added since.
    get(group.join());
    om::usage_report usage;
    group.add(on.usage(), usage);
    get(group.join());
    CHECK(usage.diffs != 0);
}

TEST_CASE("the first failure in a group ends the other operations and is reported")
{
    int ended = 0, result = 1;
    const bool limited = GENERATE(false, true);
    om::task_group group;
    group.add(last_for_ever(&ended));
    group.add(give(2), result);
    group.add(fail());
    group.add(last_for_ever(&ended));
    CHECK(failure_of(limited ? group.join(long_time) : group.join()) == om::errc::image_not_found);
    CHECK(ended == 2);
    CHECK(result == 2);
}

TEST_CASE("a group that reaches its time limit cancels all operations and reports a time-out")
{
    int ended = 0;
    om::task_group group;
    group.add(last_for_ever(&ended));
    group.add(last_for_ever(&ended));
    CHECK(failure_of(group.join(no_time)) == asio::error::timed_out);
    CHECK(ended == 2);
}

TEST_CASE("a group that reaches its time limit names the limit")
{
    const auto text_of = [](steady_clock::duration limit) {
        int ended = 0;
        om::task_group group;
        group.add(last_for_ever(&ended));
        try {
            get(group.join(limit));
        } catch (const om::error& failure) {
            return std::string(failure.what());
        }
        return std::string();
    };
    CHECK(text_of(std::chrono::seconds(1)).ends_with(" (the time limit of 1 s was reached)"));
    CHECK(text_of(std::chrono::milliseconds(20)).ends_with(" (the time limit of 20 ms was reached)"));
    CHECK(text_of(std::chrono::nanoseconds(1)).ends_with(" (the time limit of 1 ms was reached)"));
}

TEST_CASE("a group that ends in time does not wait for its time limit")
{
    int result = 0;
    om::task_group group;
    group.add(give(3), result);
    const auto begin = steady_clock::now();
    get(group.join(long_time));
    CHECK(steady_clock::now() - begin < std::chrono::minutes(1));
    CHECK(result == 3);
    get(group.join(long_time)); // without operations
}

TEST_CASE("cancelling the join of a group cancels its operations")
{
    const bool limited = GENERATE(false, true);
    int ended = 0;
    asio::io_context context;
    asio::cancellation_signal signal;
    std::exception_ptr failure;
    {
        om::task_group group;
        group.add(last_for_ever(&ended));
        asio::co_spawn(context, limited ? group.join(long_time) : group.join(),
                       asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr why) { failure = std::move(why); }));
    } // the operation does not need the group object
    context.poll();
    CHECK(ended == 0);
    signal.emit(asio::cancellation_type::terminal);
    context.run_for(std::chrono::seconds(60));
    CHECK(ended == 1);
    REQUIRE(failure);
    CHECK_THROWS_AS(std::rethrow_exception(failure), boost::system::system_error);
}

TEST_CASE("operations that are never joined are destroyed with the group, and a context may be destroyed while a group waits")
{
    int ended = 0;
    {
        om::task_group group;
        group.add(last_for_ever(&ended));
    }
    CHECK(ended == 0); // the operation was never started
    {
        asio::io_context context;
        om::task_group group;
        group.add(last_for_ever(&ended));
        asio::co_spawn(context, group.join(long_time), [](std::exception_ptr) {});
        context.poll();
    }
    CHECK(ended == 1);
}
