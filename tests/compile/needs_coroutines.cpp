// reject-gcc: -fno-coroutines
// reject-clang: -U__cpp_impl_coroutine
// expect: error: (#error )?"overmount needs C\+\+20 coroutines, which are disabled"
#include <overmount/core/config.hpp>
