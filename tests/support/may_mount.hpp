// Whether this process may mount overlays.
#ifndef OVERMOUNT_TESTS_SUPPORT_MAY_MOUNT_HPP
#define OVERMOUNT_TESTS_SUPPORT_MAY_MOUNT_HPP

#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <unistd.h>

#include <filesystem>
#include <string>

namespace overmount::test {

inline bool may_mount()
{
    static const bool answer = [] {
        if (::geteuid() != 0)
            return false;
        const scratch_directory scratch;
        for (const char* name : {"one", "two", "at"})
            std::filesystem::create_directory(scratch / name);
        const std::string options = "lowerdir=" + (scratch / "one").string() + ":" + (scratch / "two").string();
        return run_quietly({"mount", "-t", "overlay", "-o", options.c_str(), "overlay", (scratch / "at").c_str()}) == 0;
    }();
    return answer;
}

} // namespace overmount::test

#define NEEDS_MOUNTS()                                                                                       \
    do {                                                                                                     \
        if (!overmount::test::may_mount())                                                                   \
            OVERMOUNT_SKIP("may not mount");                                                                 \
    } while (false)

#endif
