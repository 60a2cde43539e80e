// The first error says it, before all that follows from it.
// reject: -std=c++17
// expect: \A(In file included from .*\n| +from .*\n)*.*error: (#error )?"overmount needs C\+\+20: compile with -std=c\+\+20 or newer"
#include <overmount/overmount.hpp>
