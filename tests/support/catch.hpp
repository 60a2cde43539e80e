// Catch2 2 and 3 under one name: tests are written with the names of Catch2 3.
#ifndef OVERMOUNT_TESTS_SUPPORT_CATCH_HPP
#define OVERMOUNT_TESTS_SUPPORT_CATCH_HPP

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>

#include <string>

namespace Catch::Matchers {

// In Catch2 3, Contains is for elements of a range.
inline auto ContainsSubstring(const std::string& text)
{
    return Contains(text);
}

} // namespace Catch::Matchers
#endif

#endif
