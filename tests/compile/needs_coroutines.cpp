// reject-gcc: -fno-coroutines
// reject-clang: -U__cpp_impl_coroutine
// expect: error: (#error )?"overmount needs the coroutines of C\+\+20, which are turned off"
#include <overmount/core/config.hpp>
