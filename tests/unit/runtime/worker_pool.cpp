#include <overmount/runtime/run_on.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace om = overmount;

namespace {

std::atomic<std::size_t> handled_here = 0, handled_elsewhere = 0;
pthread_t here;

void count(int)
{
    ++(::pthread_equal(::pthread_self(), here) != 0 ? handled_here : handled_elsewhere);
}

class handler
{
public:
    handler()
    {
        here = ::pthread_self();
        struct sigaction now{};
        now.sa_handler = count;
        REQUIRE(::sigaction(SIGUSR1, &now, &before_) == 0);
    }
    ~handler() { ::sigaction(SIGUSR1, &before_, nullptr); }
    handler(const handler&) = delete;
    handler& operator=(const handler&) = delete;

private:
    struct sigaction before_{};
};

sigset_t blocked_here()
{
    sigset_t out;
    REQUIRE(::pthread_sigmask(SIG_SETMASK, nullptr, &out) == 0);
    return out;
}

} // namespace

TEST_CASE("a worker never handles a signal to the process")
{
    const handler counts;
    const sigset_t before = blocked_here();
    om::worker_pool pool(4);
    const sigset_t behind = blocked_here();
    for (int signal = 1; signal < NSIG; ++signal)
        REQUIRE(::sigismember(&before, signal) == ::sigismember(&behind, signal));
    // This thread blocks the signal: only a worker could handle it.
    sigset_t usual, one;
    ::sigemptyset(&one);
    ::sigaddset(&one, SIGUSR1);
    REQUIRE(::pthread_sigmask(SIG_BLOCK, &one, &usual) == 0);
    REQUIRE(::kill(::getpid(), SIGUSR1) == 0);
    for (int i = 0; i < 16; ++i) {
        auto work = [](const om::detail::stop_flag&) { std::this_thread::yield(); };
        ::test::run_coroutine(om::detail::run_on(pool, std::move(work)));
    }
    CHECK((handled_here == 0 && handled_elsewhere == 0));
    REQUIRE(::pthread_sigmask(SIG_SETMASK, &usual, nullptr) == 0);
    CHECK((handled_here == 1 && handled_elsewhere == 0));
}

TEST_CASE("a worker does not block the signals of its own faults")
{
    auto work = [](const om::detail::stop_flag&) {
        sigset_t blocked;
        ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
        return blocked;
    };
    const sigset_t blocked = ::test::get(om::detail::run_on(om::worker_pool(1), std::move(work)));
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT})
        CHECK(::sigismember(&blocked, fault) == 0);
    for (const int other : {SIGTERM, SIGINT, SIGCHLD, SIGALRM, SIGPIPE, SIGPROF, SIGRTMIN})
        CHECK(::sigismember(&blocked, other) == 1);
}
