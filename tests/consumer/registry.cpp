#include <overmount/registry.hpp>
#include <cstdio>
int main() { std::puts(overmount::registry_image("busybox").name().string().c_str()); }
