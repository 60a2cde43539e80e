// What the fuzz targets share. A target is a file here that defines `void check(std::string_view input)`: it
// calls one function of the library and asserts what must be true of the result. tests/fuzz/run takes every
// such file.
#ifndef OVERMOUNT_TESTS_FUZZ_FUZZ_HPP
#define OVERMOUNT_TESTS_FUZZ_FUZZ_HPP

#include <overmount/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

void check(std::string_view input);

inline void must_at(bool true_always, const char* what, int line)
{
    if (true_always)
        return;
    std::fprintf(stderr, "line %d: not true: %s\n", line, what);
    std::abort();
}
#define MUST(what) must_at((what), #what, __LINE__)

// The library may refuse an input, by its own error with its own code and one line of text. Nothing else may
// escape.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    try {
        check({reinterpret_cast<const char*>(data), size});
    } catch (const overmount::error& failure) {
        MUST(failure.code().category() == overmount::error_category());
        for (const char c : std::string_view(failure.what()))
            MUST(c >= ' ' && c < '\x7f');
    }
    return 0;
}

#endif
