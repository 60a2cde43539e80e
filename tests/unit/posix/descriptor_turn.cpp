#include <overmount/posix/descriptor_turn.hpp>

#include <overmount/posix/unique_fd.hpp>

#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"

#include <fcntl.h>

#include <array>
#include <vector>

using namespace overmount::detail;
using overmount::unique_fd;
using overmount::test::descriptor_limit;

namespace {

TEST_CASE("a turn is taken only where descriptors stay free for others")
{
    const descriptor_limit usual(1024);
    descriptor_turn turn;
    std::vector<unique_fd> others;
    for (int i = 0; i < 600; ++i)
        others.emplace_back(::open("/", O_PATH | O_CLOEXEC));
    CHECK_FALSE(turn.take());
    others.resize(400);
    CHECK(turn.take());
    while (others.emplace_back(::open("/", O_PATH | O_CLOEXEC))) {
    }
    CHECK(turn.take()); // it was before
    turn.give_back();
    CHECK_FALSE(turn.take());
}

TEST_CASE("it is known how many files may still be opened")
{
    const descriptor_limit usual(1024);
    const std::size_t before = free_descriptors();
    CHECK((before > 900 && before < 1024));
    std::vector<unique_fd> others;
    for (int i = 0; i < 100; ++i)
        others.emplace_back(::open("/", O_PATH | O_CLOEXEC));
    CHECK(free_descriptors() == before - 100);
    const descriptor_limit fewer(80);
    CHECK(free_descriptors() == 0);
}

TEST_CASE("a process has eight turns, and each that is given back or dropped can be taken again")
{
    const descriptor_limit usual(1024);
    std::array<descriptor_turn, 8> turns;
    for (descriptor_turn& one : turns)
        CHECK(one.take());
    {
        descriptor_turn late;
        CHECK_FALSE(late.take());
        turns[3].give_back();
        CHECK(late.take());
        CHECK_FALSE(turns[3].take());
    }
    CHECK(turns[3].take());
}

} // namespace
