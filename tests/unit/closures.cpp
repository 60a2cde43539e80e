// Tests whether the compiler destroys closures that are passed to coroutines exactly once.
//
// To test your own program, copy `counted`, capture it in your closures, and call your coroutines as your program does.
#include <overmount/options.hpp>

#include "support/catch.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <utility>

namespace asio = boost::asio;
namespace om = overmount;

namespace {

// The number of live objects; negative if one was destroyed twice.
class counted
{
public:
    counted() { ++alive; }
    counted(const counted&) { ++alive; }
    ~counted() { --alive; }
    static inline int alive = 0;
};

int alive_after(asio::awaitable<void> work)
{
    counted::alive = 0;
    asio::io_context context;
    asio::co_spawn(context, std::move(work), asio::detached);
    context.run();
    return counted::alive;
}

asio::awaitable<void> import_with(om::import_options) { co_return; }
asio::awaitable<void> commit_with(om::commit_options) { co_return; }

asio::awaitable<void> with_named_options()
{
    om::import_options options;
    options.progress([mark = counted()](const om::layer_progress&) {});
    co_await import_with(std::move(options));
}

asio::awaitable<void> with_a_named_closure()
{
    auto edit = [mark = counted()](om::image_config_edit&) {};
    co_await commit_with(om::commit_options().edit(std::move(edit)));
}

asio::awaitable<void> with_a_closure_in_the_expression()
{
    co_await import_with(om::import_options().progress([mark = counted()](const om::layer_progress&) {}));
}

} // namespace

TEST_CASE("a closure that has a name, or is passed to options that have a name, is destroyed once")
{
    CHECK(alive_after(with_named_options()) == 0);
    CHECK(alive_after(with_a_named_closure()) == 0);
}

TEST_CASE("a closure inside a co_await expression is destroyed twice by GCC 12, and once by other compilers")
{
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
    CHECK(alive_after(with_a_closure_in_the_expression()) == -1);
#else
    CHECK(alive_after(with_a_closure_in_the_expression()) == 0);
#endif
}
