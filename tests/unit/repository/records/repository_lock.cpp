#include <overmount/repository/records/repository_lock.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <list>
#include <optional>
#include <thread>

using overmount::detail::lock_kind;
using overmount::detail::repository_lock;
using overmount::test::opened_store;
using clock_type = std::chrono::steady_clock;

namespace {

// Whether it can be had at the moment.
bool free_for(const opened_store& one, lock_kind kind) { return one.records.lock(kind).try_take(); }

} // namespace

TEST_CASE("the lock is shared by all who look, by one of those who change roots, and had by one alone who collects")
{
    const opened_store one;
    auto first = one.records.lock(lock_kind::shared), second = one.records.lock(lock_kind::shared);
    REQUIRE(first.try_take());
    REQUIRE(second.try_take());
    CHECK_FALSE(free_for(one, lock_kind::exclusive));
    {
        auto roots = one.records.lock(lock_kind::roots);
        REQUIRE(roots.try_take());
        CHECK(free_for(one, lock_kind::shared));
        CHECK_FALSE(free_for(one, lock_kind::roots));
        CHECK_FALSE(free_for(one, lock_kind::exclusive));
    }
    CHECK(free_for(one, lock_kind::roots));
    first.release();
    CHECK_FALSE(free_for(one, lock_kind::exclusive));
    second.release();
    auto alone = one.records.lock(lock_kind::exclusive);
    REQUIRE(alone.try_take());
    for (const lock_kind kind : {lock_kind::shared, lock_kind::roots, lock_kind::exclusive})
        CHECK_FALSE(free_for(one, kind));
}

TEST_CASE("nothing stays locked behind who gives up, whether he had it or not")
{
    const lock_kind held = GENERATE(lock_kind::shared, lock_kind::roots, lock_kind::exclusive);
    const lock_kind wanted = GENERATE(lock_kind::shared, lock_kind::roots, lock_kind::exclusive);
    const opened_store one;
    {
        auto holder = one.records.lock(held), other = one.records.lock(wanted);
        REQUIRE(holder.try_take());
        for (int i = 0; i < 2; ++i) {
            static_cast<void>(other.try_take());
            other.release();
        }
        holder.release();
        CHECK(free_for(one, lock_kind::exclusive));
        REQUIRE(holder.try_take());
        static_cast<void>(other.try_take()); // and goes away in the middle of that
    }
    for (const lock_kind kind : {lock_kind::shared, lock_kind::roots, lock_kind::exclusive})
        CHECK(free_for(one, kind));
}

TEST_CASE("who waits for the lock alone keeps those out who come later")
{
    const opened_store one;
    auto holder = one.records.lock(lock_kind::shared), alone = one.records.lock(lock_kind::exclusive);
    REQUIRE(holder.try_take());
    CHECK(free_for(one, lock_kind::shared));
    CHECK_FALSE(alone.try_take());
    CHECK_FALSE(free_for(one, lock_kind::shared));
    CHECK_FALSE(free_for(one, lock_kind::roots));
    holder.release();
    CHECK(alone.try_take());
}

// Without the turnstile it is not had in ten seconds: some of the eight have the lock at any moment.
TEST_CASE("eight that take the shared lock without pause do not keep out who wants it alone")
{
    const opened_store one;
    std::atomic<bool> done = false, is_alone = false, broken = false;
    std::atomic<int> taken = 0, rounds = 0;
    std::list<std::jthread> others;
    for (int i = 0; i < 8; ++i)
        others.emplace_back([&] {
            std::optional<repository_lock> before; // given up when the next is had: there is no gap but that of the turnstile
            while (!done) {
                const int round = rounds;
                auto mine = one.records.lock(lock_kind::shared);
                if (mine.try_take()) {
                    broken = broken || is_alone;
                    ++taken;
                    before.emplace(std::move(mine));
                } else {
                    before.reset();
                    rounds.wait(round); // until the other one had it
                }
            }
        });
    while (taken < 100)
        std::this_thread::yield();
    auto shortest = clock_type::duration::max(); // the machine may have something else to do
    for (int i = 0; i < 5; ++i) {
        auto alone = one.records.lock(lock_kind::exclusive);
        const auto start = clock_type::now();
        bool have = false;
        while (!have && clock_type::now() - start < std::chrono::seconds(10)) {
            have = alone.try_take();
            std::this_thread::yield();
        }
        CHECK(have);
        shortest = std::min(shortest, clock_type::now() - start);
        is_alone = have;
        std::this_thread::yield();
        is_alone = false;
        alone.release();
        ++rounds;
        rounds.notify_all();
    }
    done = true;
    ++rounds;
    rounds.notify_all();
    others.clear();
    CHECK(shortest < std::chrono::milliseconds(100));
    CHECK_FALSE(broken);
}

TEST_CASE("who has the lock alone sees whether others wait for it, until they have it or give up")
{
    const opened_store one;
    const lock_kind kind = GENERATE(lock_kind::shared, lock_kind::roots);
    auto alone = one.records.lock(lock_kind::exclusive);
    REQUIRE(alone.try_take());
    CHECK_FALSE(alone.is_awaited());
    auto waits = one.records.lock(kind);
    CHECK_FALSE(waits.try_take());
    CHECK(alone.is_awaited());
    CHECK_FALSE(waits.try_take());
    CHECK(alone.is_awaited());
    SECTION("has it")
    {
        alone.release();
        CHECK(waits.try_take());
    }
    SECTION("gives up") { waits.release(); }
    CHECK_FALSE(alone.is_awaited());
}
