// All macros of the library.
//
// OVERMOUNT_SEPARATE_COMPILATION  define it for a whole program to compile the bodies once, in the one
//                                 translation unit that includes overmount/src.hpp
// OVERMOUNT_WITH_ISAL             gzip by ISA-L instead of zlib; set by the build dependency, together with
//                                 the link flags
#ifndef OVERMOUNT_CORE_CONFIG_HPP
#define OVERMOUNT_CORE_CONFIG_HPP

#ifndef __linux__
#error "overmount needs Linux: overlayfs, openat2 and open-file-description locks"
#endif
#if defined(__clang__)
#if __clang_major__ < 14
#error "overmount needs Clang 14 or newer"
#endif
#elif defined(__GNUC__) && __GNUC__ < 12
#error "overmount needs GCC 12 or newer"
#endif
#if __cplusplus < 202002L
#error "overmount needs C++20: compile with -std=c++20 or newer"
#elif !defined(__cpp_impl_coroutine)
#error "overmount needs the coroutines of C++20, which are turned off"
#endif

#define OVERMOUNT_VERSION "0.1.0"

// How a body is written. Header-only, it is a template: a program compiles those that it calls, while compilers spend time
// on every inline function that they see (GCC compiles coroutines that nobody calls, and all that they use). With separate
// compilation it is an ordinary function.
//
//   OVERMOUNT_LAZY       before a declaration; and before a body that stands alone, together with `inline`, or in its class
//   OVERMOUNT_LAZY_BODY  before a body that was declared
//   OVERMOUNT_DECL       before a body that cannot be a template: a virtual function, a destructor, a move constructor
#ifdef OVERMOUNT_SEPARATE_COMPILATION
#define OVERMOUNT_DECL
#define OVERMOUNT_LAZY
#define OVERMOUNT_LAZY_BODY
#else
#define OVERMOUNT_DECL inline
#define OVERMOUNT_LAZY template <class = void>
#define OVERMOUNT_LAZY_BODY template <class>
#endif

// Two libraries that were built with different options may meet in one program: what an option changes in
// inline code is part of the namespace.
#ifdef OVERMOUNT_WITH_ISAL
#define OVERMOUNT_ABI v0_isal
#else
#define OVERMOUNT_ABI v0
#endif

#endif
