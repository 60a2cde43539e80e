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

// Whether the lock is free.
bool free_for(const opened_store& one, lock_kind kind) { return one.records.lock(kind).try_take(); }

} // namespace

TEST_CASE("many can hold the lock shared, one of them for the roots, and an exclusive holder is alone")
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

TEST_CASE("a released attempt leaves nothing locked, whether or not it had the lock")
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
        static_cast<void>(other.try_take()); // and is destroyed while it waits
    }
    for (const lock_kind kind : {lock_kind::shared, lock_kind::roots, lock_kind::exclusive})
        CHECK(free_for(one, kind));
}

TEST_CASE("a waiting exclusive attempt keeps later attempts out")
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

// Without the turnstile, the lock cannot be taken within ten seconds: some of the eight threads always hold it.
TEST_CASE("eight threads that take the lock shared without pause do not starve an exclusive attempt")
{
    const opened_store one;
    std::atomic<bool> done = false, is_alone = false, broken = false;
    std::atomic<int> taken = 0, rounds = 0;
    std::list<std::jthread> others;
    for (int i = 0; i < 8; ++i)
        others.emplace_back([&] {
            std::optional<repository_lock> before; // released when the next is taken: the only gap is that of the turnstile
            while (!done) {
                const int round = rounds;
                auto mine = one.records.lock(lock_kind::shared);
                if (mine.try_take()) {
                    broken = broken || is_alone;
                    ++taken;
                    before.emplace(std::move(mine));
                } else {
                    before.reset();
                    rounds.wait(round); // until the exclusive attempt has had the lock
                }
            }
        });
    while (taken < 100)
        std::this_thread::yield();
    auto shortest = clock_type::duration::max(); // the shortest time counts: the machine may be busy
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

TEST_CASE("an exclusive holder sees whether others wait for the lock, until they get it or give up")
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
    SECTION("gets it")
    {
        alone.release();
        CHECK(waits.try_take());
    }
    SECTION("gives up") { waits.release(); }
    CHECK_FALSE(alone.is_awaited());
}
