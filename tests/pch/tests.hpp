// What nearly every test includes, read once for a program.
#ifndef OVERMOUNT_TESTS_PCH_TESTS_HPP
#define OVERMOUNT_TESTS_PCH_TESTS_HPP

#include <support/catch.hpp>

#include <overmount/overmount.hpp>

#endif
