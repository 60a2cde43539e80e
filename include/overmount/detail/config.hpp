// All macros of the library.
//
// OVERMOUNT_SEPARATE_COMPILATION  define it for a whole program to compile the bodies once, in the one
//                                 translation unit that includes overmount/src.hpp
// OVERMOUNT_WITH_ISAL             gzip by ISA-L instead of zlib; set by the build dependency, together with
//                                 the link flags
#ifndef OVERMOUNT_DETAIL_CONFIG_HPP
#define OVERMOUNT_DETAIL_CONFIG_HPP

#ifndef __linux__
#error "overmount needs Linux: overlayfs, openat2 and open-file-description locks"
#endif

#define OVERMOUNT_VERSION "0.1.0"

#ifdef OVERMOUNT_SEPARATE_COMPILATION
#define OVERMOUNT_DECL
#else
#define OVERMOUNT_DECL inline
#endif

// Two libraries that were built with different options may meet in one program: what an option changes in
// inline code is part of the namespace.
#ifdef OVERMOUNT_WITH_ISAL
#define OVERMOUNT_ABI v0_isal
#else
#define OVERMOUNT_ABI v0
#endif

#endif
