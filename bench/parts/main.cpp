// The parts of unpacking, one by one, without what lies between them:
//   parts [--benchmark_filter=REGEX] [--benchmark_min_time=SECONDS] ...
// What is written lies on tmpfs, unless OVERMOUNT_SCRATCH names a directory.
#include <benchmark/benchmark.h>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

int main(int count, char** arguments)
try {
    if (::access("/dev/shm", W_OK | X_OK) == 0)
        ::setenv("OVERMOUNT_SCRATCH", "/dev/shm", 0);
    benchmark::Initialize(&count, arguments);
    if (benchmark::ReportUnrecognizedArguments(count, arguments))
        return 1;
    return benchmark::RunSpecifiedBenchmarks() == 0; // a filter that matches nothing is a mistake
} catch (const std::exception& failure) { // else scratch directories would stay
    std::fprintf(stderr, "parts: %s\n", failure.what());
    return 1;
}
