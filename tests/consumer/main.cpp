#include <overmount/core/digest.hpp>
#include <cstdio>
int main() { std::puts(overmount::digest::of("").string().c_str()); }
