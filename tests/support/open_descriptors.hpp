#ifndef OVERMOUNT_TEST_OPEN_DESCRIPTORS_HPP
#define OVERMOUNT_TEST_OPEN_DESCRIPTORS_HPP

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>

namespace overmount::test {

// How many descriptors this process has open. Pipes do not count: a sanitizer opens two of them to its symbolizer when it needs that
// for the first time, and the library makes none.
inline std::size_t open_descriptors()
{
    namespace fs = std::filesystem;
    return static_cast<std::size_t>(
        std::count_if(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator(), [](const fs::directory_entry& one) {
            std::error_code gone;
            return !fs::read_symlink(one.path(), gone).string().starts_with("pipe:");
        }));
}

} // namespace overmount::test

#endif
