// Catch2 2 and 3 under one name.
#ifndef OVERMOUNT_TESTS_SUPPORT_CATCH_HPP
#define OVERMOUNT_TESTS_SUPPORT_CATCH_HPP

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#endif
