// Leaves a test that this machine cannot run. The line is for the runner, which may count a skip as a
// failure.
#ifndef OVERMOUNT_TESTS_SUPPORT_SKIP_HPP
#define OVERMOUNT_TESTS_SUPPORT_SKIP_HPP

#include "support/catch.hpp"

#include <iostream>

#define OVERMOUNT_SKIP(why)                                                                                  \
    do {                                                                                                     \
        std::cout << "SKIPPED: " << Catch::getResultCapture().getCurrentTestName() << ": " << (why)          \
                  << std::endl;                                                                              \
        return;                                                                                              \
    } while (false)

#endif
