// With OVERMOUNT_TEST_OLD_KERNEL in the environment mounts have no unique IDs.
#include "support/refuse_calls.hpp"

#include <cstdlib>

namespace {
[[maybe_unused]] const bool refused =
    std::getenv("OVERMOUNT_TEST_OLD_KERNEL") != nullptr && (overmount::test::refuse_unique_mount_ids() || (std::abort(), false));
} // namespace

#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
int main(int argc, char** argv)
{
    return Catch::Session().run(argc, argv);
}
#else
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
