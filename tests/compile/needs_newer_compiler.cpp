// A compiler that says it is an older one.
// reject-gcc: -U__GNUC__ -D__GNUC__=11
// expect-gcc: error: #error "overmount needs GCC 12 or newer"
// reject-clang: -U__clang_major__ -D__clang_major__=13
// expect-clang: error: "overmount needs Clang 14 or newer"
#include <overmount/core/config.hpp>
