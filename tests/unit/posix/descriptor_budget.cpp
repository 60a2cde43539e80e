#include <overmount/posix/descriptor_budget.hpp>

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

TEST_CASE("a descriptor budget is granted only if enough descriptors stay free")
{
    const descriptor_limit usual(1024);
    descriptor_budget budget;
    std::vector<unique_fd> others;
    for (int i = 0; i < 600; ++i)
        others.emplace_back(::open("/", O_PATH | O_CLOEXEC));
    CHECK_FALSE(budget.take());
    others.resize(400);
    CHECK(budget.take());
    while (others.emplace_back(::open("/", O_PATH | O_CLOEXEC))) {
    }
    CHECK(budget.take()); // it already holds the budget
    budget.release();
    CHECK_FALSE(budget.take());
}

TEST_CASE("free_descriptors returns how many files may still be opened")
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

TEST_CASE("a process has eight descriptor budgets, and a released one can be taken again")
{
    const descriptor_limit usual(1024);
    std::array<descriptor_budget, 8> budgets;
    for (descriptor_budget& one : budgets)
        CHECK(one.take());
    {
        descriptor_budget late;
        CHECK_FALSE(late.take());
        budgets[3].release();
        CHECK(late.take());
        CHECK_FALSE(budgets[3].take());
    }
    CHECK(budgets[3].take());
}

} // namespace
