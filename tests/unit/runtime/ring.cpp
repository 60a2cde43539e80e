#include "support/catch.hpp"

#include <overmount/runtime/ring.hpp>

#include <stdexcept>

using overmount::detail::ring;

TEST_CASE("a ring returns buffers in the order in which they were filled")
{
    ring buffers(1, 2, 4);
    REQUIRE(buffers.front().empty());
    for (unsigned char i = 0; i < 10; ++i) {
        REQUIRE(buffers.back().size() == 4);
        buffers.back()[0] = std::byte{i};
        buffers.push(1);
        REQUIRE(buffers.front().size() == 1);
        REQUIRE(buffers.front()[0] == std::byte{i});
        buffers.pop();
    }
}

TEST_CASE("a full ring has no room until its reader pops a buffer")
{
    ring buffers(1, 2, 4);
    buffers.push(4);
    REQUIRE_FALSE(buffers.back().empty());
    buffers.push(3);
    REQUIRE(buffers.back().empty());
    buffers.pop();
    REQUIRE(buffers.back().size() == 4);
    REQUIRE(buffers.front().size() == 3);
}

TEST_CASE("a ring has room when half of its buffers are free, whatever its size")
{
    for (const std::size_t size : {1u, 2u, 3u, 4u}) {
        ring buffers(2, size, 1);
        for (std::size_t filled = 0; filled < size; ++filled) {
            CHECK(buffers.has_room() == (filled <= size / 2));
            buffers.push(1);
        }
        for (std::size_t left = size; left > 0; --left) {
            buffers.pop(1);
            CHECK(buffers.has_room() == (left <= size / 2)); // the last reader returns it to the producer
            buffers.pop(2);
        }
        CHECK(buffers.has_room());
    }
}

TEST_CASE("a ring is finished when it is closed and empty, and reports a failure after the bytes")
{
    ring buffers(1, 2, 4);
    buffers.push(2);
    REQUIRE_FALSE(buffers.finished());
    SECTION("closed")
    {
        buffers.close();
        REQUIRE_FALSE(buffers.finished());
        buffers.pop();
        REQUIRE(buffers.finished());
    }
    SECTION("failed")
    {
        buffers.close(std::make_exception_ptr(std::runtime_error("cut")));
        REQUIRE_FALSE(buffers.finished());
        buffers.pop();
        REQUIRE_THROWS_AS(buffers.finished(), std::runtime_error);
    }
}

TEST_CASE("a ring with a size of zero or an overflowing size is rejected")
{
    REQUIRE_THROWS_AS(ring(1, 0, 1), std::length_error);
    REQUIRE_THROWS_AS(ring(1, 1, 0), std::length_error);
    REQUIRE_THROWS_AS(ring(1, 3, static_cast<std::size_t>(-1) / 2), std::length_error);
}

TEST_CASE("the second reader gets a buffer after the first has popped it, and its own pop makes room")
{
    ring buffers(2, 2, 4);
    buffers.push(1);
    buffers.push(2);
    REQUIRE(buffers.front(1).size() == 1);
    REQUIRE(buffers.front(2).empty());
    buffers.pop(1);
    REQUIRE(buffers.front(1).size() == 2);
    REQUIRE(buffers.front(2).size() == 1);
    REQUIRE(buffers.back().empty());
    buffers.pop(2);
    REQUIRE(buffers.front(2).empty());
    REQUIRE_FALSE(buffers.back().empty());
}

TEST_CASE("a reader is at the end when it has popped all buffers of a closed ring")
{
    ring buffers(2, 2, 4);
    buffers.push(1);
    REQUIRE_FALSE(buffers.at_end(1));
    buffers.close(std::make_exception_ptr(std::runtime_error("cut")));
    buffers.pop(1);
    REQUIRE(buffers.at_end(1));
    REQUIRE_FALSE(buffers.at_end(2));
    REQUIRE_FALSE(buffers.finished(2));
    buffers.pop(2);
    REQUIRE(buffers.at_end(2));
    REQUIRE_THROWS_AS(buffers.finished(2), std::runtime_error);
}
