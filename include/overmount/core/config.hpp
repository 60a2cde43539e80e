// All macros of the library.
//
// OVERMOUNT_SEPARATE_COMPILATION  compile the bodies once, in the one translation unit that includes overmount/src.hpp;
//                                 define it for the whole program
// OVERMOUNT_WITH_ISAL             decode gzip with ISA-L instead of zlib; the build dependency sets it together with the
//                                 link flags
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
#error "overmount needs C++20 coroutines, which are disabled"
#endif

#define OVERMOUNT_VERSION "0.1.0"

// How function bodies are declared. With separate compilation, a body is an ordinary function. Header-only, there are two kinds:
//
// - An inline function: OVERMOUNT_DECL before a body outside its class. This is the rule.
// - A template, so that a program compiles only the bodies that it calls: where coroutines and JSON make bodies expensive even if
//   nobody calls them, since GCC compiles unused coroutines and everything that they call. tests/lint.py has the list of places.
//
//   OVERMOUNT_LAZY       before a declaration, before a body inside its class, and, together with `inline`, before a body without
//                        a separate declaration
//   OVERMOUNT_LAZY_BODY  before the body of a function that is declared elsewhere
//   OVERMOUNT_DECL       before a body that is no template: also a virtual function, a destructor, a move constructor
#ifdef OVERMOUNT_SEPARATE_COMPILATION
#define OVERMOUNT_DECL
#define OVERMOUNT_LAZY
#define OVERMOUNT_LAZY_BODY
#else
#define OVERMOUNT_DECL inline
#define OVERMOUNT_LAZY template <class = void>
#define OVERMOUNT_LAZY_BODY template <class>
#endif

// One program may link two libraries that were built with different options. An option that changes inline code is therefore
// part of the namespace. `inline` is in the macro because ctags cannot read a file with
// `namespace a::inline b`.
#ifdef OVERMOUNT_WITH_ISAL
#define OVERMOUNT_ABI inline v0_isal
#else
#define OVERMOUNT_ABI inline v0
#endif

#endif
